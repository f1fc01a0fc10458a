"""The lab's PostgreSQL: a database `muster`, owned by a role of that name, which logs in by password from the lab only.

The superuser logs in as the system's user `postgres` by a socket that is in its namespace's own view of the files.
"""

import signal
import subprocess

from muster.lab.engines.postgresql import ACCOUNT, PORT, initdb_command, server_command, tool
from muster.lab.parts.accounts import account, give
from muster.lab.plan import Part
from muster.lab.processes import Launch, run
from muster.lab.site import Site

_PATH = "/usr/bin:/bin"
_CONNECTIONS = 400
_PROBE_S = 10


class PostgresqlRunner:
    """See `parts.runner.Runner`."""

    stop_signal = signal.SIGINT  # SIGTERM would wait for its clients

    def prepare(self, site: Site, part: Part) -> None:
        """Make the database cluster; some seconds."""
        give(site, part, ACCOUNT)
        data = account(site, part, ACCOUNT, "postgresql").home / "data"
        make = initdb_command(data, "--auth-local=peer", "--auth-host=scram-sha-256")
        run(site.namespace(part), self._launch(site, part, make))
        access = site.part_folder(part) / "data" / "pg_hba.conf"
        access.write_text(f"local all postgres peer\nhost muster muster {site.plan.subnet} scram-sha-256\n")

    def launch(self, site: Site, part: Part) -> Launch:
        """One postmaster. Nobody runs on the data when this is asked: what a killed one has left, with a number that
        another process (or its own, not waited for by init) may have, must not keep it from starting.
        """
        for lock in ("data/postmaster.pid", f".s.PGSQL.{PORT}.lock"):
            (site.part_folder(part) / lock).unlink(missing_ok=True)
        home = account(site, part, ACCOUNT, "postgresql").home
        settings = {
            "listen_addresses": part.address,
            "port": str(PORT),
            "unix_socket_directories": str(home),
            "max_connections": str(_CONNECTIONS),
        }
        return self._launch(site, part, server_command(home / "data", settings))

    def is_ready(self, site: Site, part: Part) -> bool:
        """Whether it takes connections: after a crash it recovers first."""
        ask = [tool("pg_isready"), "-q", "-t", "2", "-h", part.address, "-p", str(PORT), "-U", "muster", "-d", "muster"]
        try:
            return subprocess.run(ask, check=False, capture_output=True, timeout=_PROBE_S).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def complete(self, site: Site, part: Part) -> None:
        """The role with its password, and its database."""
        home = account(site, part, ACCOUNT, "postgresql").home
        ask = [tool("psql"), "-q", "-v", "ON_ERROR_STOP=1", "-h", str(home), "-U", "postgres", "-d", "postgres"]
        statements = (
            f"CREATE ROLE muster LOGIN PASSWORD '{site.secrets.postgresql}';\nCREATE DATABASE muster OWNER muster;\n"
        )
        run(site.namespace(part), self._launch(site, part, ask), statements)

    def _launch(self, site: Site, part: Part, command: list[str]) -> Launch:
        return Launch(
            command=command,
            log=site.log(part),
            environment={"PATH": _PATH, "LANG": "C.UTF-8"},
            account=account(site, part, ACCOUNT, "postgresql"),
        )

"""A stock Neutron of one's own: MariaDB or PostgreSQL, and API workers under uWSGI, as Neutron's documentation has it.

No Keystone (`auth_strategy = noauth`), no agents, no message broker (`fake:`); ML2 without mechanism drivers. Needs the
environment of `scripts/neutron-venv`. For tests and benchmarks.
"""

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.free_ports import free_port
from muster.lab.engines import postgresql
from muster.lab.engines.programs import program

VENV = Path(__file__).resolve().parents[1] / ".venv-neutron"
VENV_21 = VENV.with_name(".venv-neutron-21")
PROJECT_ID = "a" * 32
HEADERS = {
    "Content-Type": "application/json",
    "X-Project-Id": PROJECT_ID,
    "X-User-Id": "b" * 32,
    "X-Roles": "admin,member,reader",
}
_START_S = 900.0
_MAKE_TABLES = """
import sys
from neutron.db.migration.models import head
from neutron_lib.db import model_base
from oslo_db.sqlalchemy import engines
model_base.BASEV2.metadata.create_all(engines.create_engine(sys.argv[1]))
"""
_STOP_S = 60.0


class Process:
    """A process and what it starts; `log` takes what they print."""

    def __init__(self, command: Sequence[str], log: Path, **options: Any) -> None:
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **options
            )
        self._log = log
        self._command = command[0]

    def await_ready(self, ready: Any) -> None:
        deadline = time.monotonic() + _START_S
        while not ready():
            if self.popen.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self._command} did not start:\n{self._log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.1)

    def stop(self, number: int = signal.SIGTERM) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGCONT)
            os.kill(self.popen.pid, number)
        try:
            self.popen.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)


class MariaDb:
    """A server in a folder of its own, on a port of loopback."""

    kind = "MariaDB"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._socket = folder / "socket"
        self._port = free_port()
        self._names = 0
        data = folder / "data"
        user = pwd.getpwuid(os.geteuid()).pw_name
        install = [program("mariadb-install-db", "mariadb-server-core"), "--no-defaults", f"--datadir={data}"]
        install += [f"--user={user}", "--auth-root-authentication-method=normal", "--skip-test-db"]
        done = subprocess.run(install, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{done.stdout}{done.stderr}")
        command = [program("mariadbd", "mariadb-server-core"), "--no-defaults", f"--user={user}", f"--datadir={data}"]
        command += [f"--socket={self._socket}", f"--port={self._port}", "--bind-address=127.0.0.1"]
        command += [f"--pid-file={folder / 'pid'}", "--max-connections=500", "--innodb-flush-log-at-trx-commit=2"]
        self.process = Process(command, folder / "log")
        self.process.await_ready(lambda: self._try("SELECT 1").returncode == 0)
        self._do("CREATE USER neutron@'127.0.0.1' IDENTIFIED BY 'secret'; GRANT ALL ON *.* TO neutron@'127.0.0.1'")

    def new_database(self) -> str:
        """The URL of a new empty database."""
        self._names += 1
        name = f"neutron_{self._names}"
        self._do(f"CREATE DATABASE {name} CHARACTER SET utf8mb3")
        return f"mysql+pymysql://neutron:secret@127.0.0.1:{self._port}/{name}"

    def stop(self) -> None:
        self.process.stop()

    def _try(self, sql: str) -> "subprocess.CompletedProcess[str]":
        command = [program("mariadb", "mariadb-client-core"), "--no-defaults", f"--socket={self._socket}", "-uroot"]
        return subprocess.run([*command, "-e", sql], check=False, capture_output=True, text=True, timeout=60)

    def _do(self, sql: str) -> None:
        done = self._try(sql)
        if done.returncode:
            raise RuntimeError(done.stderr)


class PostgreSql:
    """A server in a folder of its own, on a socket there."""

    kind = "PostgreSQL"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._names = 0
        self._account: dict[str, Any] = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam(postgresql.ACCOUNT)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            self._account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        data = folder / "data"
        subprocess.run(
            postgresql.initdb_command(data, "--auth=trust"), check=True, capture_output=True, **self._account
        )
        settings = {"listen_addresses": "", "unix_socket_directories": str(folder), "max_connections": "300"}
        self.process = Process(postgresql.server_command(data, settings), folder / "log", **self._account)
        ready = [postgresql.tool("pg_isready"), "-q", "-h", str(folder)]
        self.process.await_ready(lambda: subprocess.run(ready, check=False).returncode == 0)

    def new_database(self) -> str:
        """The URL of a new empty database."""
        self._names += 1
        name = f"neutron_{self._names}"
        command = [postgresql.tool("psql"), "-h", str(self._folder), "-U", "postgres", "-qc", f"CREATE DATABASE {name}"]
        subprocess.run(command, check=True, capture_output=True)
        return f"postgresql+psycopg2://postgres@/{name}?host={self._folder}"

    def stop(self) -> None:
        self.process.stop(signal.SIGINT)  # ends connections, then itself


DATABASES: dict[str, type[MariaDb] | type[PostgreSql]] = {"mariadb": MariaDb, "postgresql": PostgreSql}


class Neutron:
    """An API server with `workers` processes of `threads` threads. `ipam` are the lines of section [muster_ipam]."""

    venv = VENV

    def __init__(
        self, folder: Path, database_url: str, driver: str, *, ipam: Mapping[str, Any] | None = None, workers: int = 4
    ) -> None:
        self.folder = folder
        self.database_url = database_url
        self.workers = workers
        self.log = folder / "api.log"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/v2.0"
        self.process: Process | None = None
        self.configure(driver, ipam or {})

    def configure(self, driver: str, ipam: Mapping[str, Any]) -> None:
        """Write neutron.conf; takes effect at the next start."""
        sections: dict[str, Mapping[str, Any]] = {
            "DEFAULT": {
                "auth_strategy": "noauth",
                "core_plugin": "ml2",
                "service_plugins": "",
                "transport_url": "fake:/",
                "bind_host": "127.0.0.1",
                "bind_port": self.port,
                "api_workers": self.workers,
                "rpc_workers": 0,
                "state_path": self.folder / "state",
                "ipam_driver": driver,
                "api_paste_config": self.venv / "etc/neutron/api-paste.ini",
                "notify_nova_on_port_status_changes": False,
                "notify_nova_on_port_data_changes": False,
                "debug": True,  # Neutron tells of its retries at this level only
                "log_file": self.log,
            },
            "database": {"connection": self.database_url, "max_pool_size": 20},
            "oslo_concurrency": {"lock_path": self.folder / "state/lock"},
            "quotas": {"quota_port": -1, "quota_network": -1, "quota_subnet": -1},
            "ml2": {"type_drivers": "local,vxlan", "tenant_network_types": "vxlan", "mechanism_drivers": ""},
            "ml2_type_vxlan": {"vni_ranges": "1:1000"},
            "muster_ipam": ipam,
        }
        lines = []
        for section, values in sections.items():
            lines += [f"[{section}]", *(f"{name} = {value}" for name, value in values.items())]
        (self.folder / "neutron.conf").write_text("\n".join(lines) + "\n")

    def migrate(self) -> None:
        """Make Neutron's tables and the driver's.

        Neutron's migrations have a statement that only MySQL knows (29.0: `ALTER TABLE tags CONVERT`), so on PostgreSQL
        its tables are made from its models.
        """
        if not self.database_url.startswith("postgresql"):
            self.command("neutron-db-manage", "upgrade", "heads")
            return
        command = [str(self.venv / "bin/python"), "-W", "ignore", "-c", _MAKE_TABLES, self.database_url]
        subprocess.run(command, check=True, capture_output=True, timeout=600)
        self.command("neutron-db-manage", "--subproject", "muster-ipam", "upgrade", "heads")

    def command(self, name: str, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a program of Neutron's environment with this Neutron's configuration."""
        command = [str(self.venv / "bin" / name), "--config-file", str(self.folder / "neutron.conf"), *words]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
        if check and done.returncode:
            raise RuntimeError(f"{name} {' '.join(words)}: {done.stdout}{done.stderr}")
        return done

    def start(self, threads: int = 8) -> None:
        """Start it and wait until every worker has served: Neutron's first requests race with its own start."""
        command = [self.venv / "bin/uwsgi", "--http-socket", f"127.0.0.1:{self.port}", "--master", "--lazy-apps"]
        command += ["--enable-threads", "--processes", self.workers, "--threads", threads, "--need-app"]
        command += ["--module", "neutron.wsgi.api:application", "--die-on-term", "--disable-logging"]
        command += ["--listen", min(4096, int(Path("/proc/sys/net/core/somaxconn").read_text()))]
        environment = {
            **os.environ,
            "OS_NEUTRON_CONFIG_DIR": str(self.folder),
            "OS_NEUTRON_CONFIG_FILES": "neutron.conf",
        }
        self._serve([str(word) for word in command], environment)

    def _serve(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.process = Process(command, self.folder / "server.log", env=environment)
        self.process.await_ready(self._warm)

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
            self.process = None

    def worker_ids(self) -> list[int]:
        """The processes that serve requests."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.popen.pid}/task/{self.process.popen.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def call(self, method: str, path: str, body: Any = None, timeout_s: float = 600.0) -> tuple[int, Any]:
        """Status and decoded body of one request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, HEADERS, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, {"headers": dict(error.headers), "body": error.read().decode(errors="replace")}

    def new_subnet(self, cidr: str, **fields: Any) -> tuple[str, str]:
        """The ids of a new network and its one subnet."""
        status, made = self.call("POST", "/networks", {"network": {"name": "n", "project_id": PROJECT_ID}})
        assert status == 201, made
        network_id = made["network"]["id"]
        subnet = {"network_id": network_id, "ip_version": 6 if ":" in cidr else 4, "cidr": cidr, "enable_dhcp": False}
        status, made = self.call("POST", "/subnets", {"subnet": {**subnet, "project_id": PROJECT_ID, **fields}})
        assert status == 201, made
        return network_id, made["subnet"]["id"]

    def retries(self) -> list[str]:
        """Lines of the log in which Neutron says that it begins a request again."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return [line for line in text.splitlines() if "Retry wrapper got retriable exception" in line]

    def clear_log(self) -> None:
        if self.log.exists():
            os.truncate(self.log, 0)

    def _warm(self) -> bool:
        """Each worker loads its rules and extensions when first asked; asked one by one, they do so in peace."""
        body = {"network": {"name": "warm", "project_id": PROJECT_ID}}
        try:
            for _ in range(40 * self.workers):
                status, made = self.call("POST", "/networks", body, timeout_s=60)
                if status != 201:
                    return False
                self.call("DELETE", f"/networks/{made['network']['id']}")
                if self._have_served() >= set(self.worker_ids()):
                    return True
        except OSError:
            pass
        return False

    def _have_served(self) -> set[int]:
        """The processes that have checked a rule, by their log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return {int(pid) for pid in re.findall(r"^\S+ \S+ (\d+) \w+ neutron\.pecan_wsgi\.hooks\.policy", text, re.M)}


class EventletNeutron(Neutron):
    """Neutron 21, as in Debian 12: `neutron-server`, whose workers serve each request in a green thread of eventlet."""

    venv = VENV_21

    def start(self, threads: int = 0) -> None:
        """Start it and wait until every worker has served."""
        command = [self.venv / "bin/neutron-server", "--config-file", self.folder / "neutron.conf"]
        self._serve([str(word) for word in command], {**os.environ, "PYTHONWARNINGS": "ignore"})

    def worker_ids(self) -> list[int]:
        """The processes that serve requests; it starts others for periodic work and for messages."""
        return [pid for pid in super().worker_ids() if b"api worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)

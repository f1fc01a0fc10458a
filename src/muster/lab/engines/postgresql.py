"""PostgreSQL: a database cluster is made by initdb, and served by one postmaster. Neither runs as root."""

from collections.abc import Mapping
from pathlib import Path

from muster.lab.engines.programs import program

#: Who the server runs as where the caller is root; Debian's package makes it.
ACCOUNT = "postgres"
PORT = 5432
#: What a killed server leaves of the memory that its processes share stays in /dev/shm until that server is started
#: again, and for ever if it is not. As files it is in the cluster's folder, and goes with that.
_SHARED_MEMORY = {"dynamic_shared_memory_type": "mmap"}


def tool(name: str) -> str:
    """The path of one of PostgreSQL's programs; of the newest release that is installed. Raises Unsupported."""
    folders = sorted(str(path) for path in Path("/usr/lib/postgresql").glob("*/bin"))
    return program(name, "postgresql", folders)


def initdb_command(data: Path, *options: str) -> list[str]:
    """Makes a database cluster in `data`, whose superuser is `postgres`."""
    return [tool("initdb"), "-D", str(data), "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", *options]


def server_command(data: Path, settings: Mapping[str, str]) -> list[str]:
    """Serves it, in the foreground; `settings` as in postgresql.conf."""
    all_settings = (_SHARED_MEMORY | dict(settings)).items()
    return [tool("postgres"), "-D", str(data), *(part for item in all_settings for part in ("-c", "=".join(item)))]

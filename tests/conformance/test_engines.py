"""What the engines of tests, of a lab and of benchmarks leave where they are ended without a word."""

import signal
from pathlib import Path

from tests.engines.fixtures import folder
from tests.engines.postgres import Postgres


def test_all_that_a_killed_postgresql_leaves_is_in_its_folder() -> None:
    """It left some MiB of shared memory each time, until the machine was started anew."""
    with folder("pg") as path:
        server = Postgres(path)
        server.start()
        try:
            shared = Path(f"/proc/{server.pid}/maps").read_text()
            assert f"{path}/data/pg_dynshmem/" in shared
            assert "/dev/shm/PostgreSQL." not in shared
        finally:
            server.end(signal.SIGKILL)

"""Work on files, in a few threads of its own: it never waits behind a call to libvirt."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from muster.base.errors import Transient

_T = TypeVar("_T")
#: Such work is mostly waiting for the disk.
_THREADS = 4


class Files:
    """Runs blocking functions."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, "guest-files")

    async def run(self, work: Callable[[], _T]) -> _T:
        """The result of `work`. Raises Transient for an OSError: disks fill up and are emptied."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except OSError as error:
            raise Transient(f"the host's disk: {error}", retry_after_s=5.0) from error

    def close(self) -> None:
        """Wait for what runs."""
        self._pool.shutdown()

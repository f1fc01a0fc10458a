"""A cloud's data folder belongs to one process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muster.base.errors import Conflict


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder, readable by its owner only, and hold it. Raises Conflict if another process has it.

    The kernel lets go of it when the process ends, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict(f"Another muster runs in {folder}. Stop it, or choose another --data.") from error
        yield
    finally:
        os.close(descriptor)

"""Files that are what they were or what they should be, also after a loss of power. Only their owner can read them."""

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file as a whole, or make it. Raises OSError. One fsync.

    Which of both it is after a loss of power is sure once `sync_directory` was called. What is not finished is left as
    `path` with `.new` behind it, until the next time.
    """
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError. One fsync."""
    file = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)

"""A guest's serial console: a file that QEMU appends to.

Invariant: what is kept of it is bounded on disk and in memory, whatever a guest writes. The beginning is given back to
the file system by punching a hole (fallocate(2)), which loses nothing that is being written at the same moment, as
cutting and copying would.
"""

import ctypes
import os
from pathlib import Path

from muster.base.units import KIB

#: What Nova hands out at most.
MAX_OUTPUT_BYTES = 100 * KIB
_BLOCK_BYTES = 4 * KIB
_STAT_BLOCK_BYTES = 512
_KEEP_SIZE, _PUNCH_HOLE = 1, 2


def tail(path: Path, n_lines: int | None) -> str:
    """The last lines of a console, or all that is handed out; empty when there is none. Reads 100 KiB at most."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_OUTPUT_BYTES))
            content = file.read(MAX_OUTPUT_BYTES)
    except FileNotFoundError:
        return ""
    text = content.lstrip(b"\0").decode("utf-8", errors="replace")
    if n_lines is None or n_lines < 0:
        return text
    return "".join(text.splitlines(keepends=True)[-n_lines:]) if n_lines else ""


def bound(path: Path, keep_bytes: int) -> bool:
    """Give back the beginning when the file takes more than twice `keep_bytes`; whether it did. Two system calls.

    Raises OSError. A file system without holes has the file emptied instead.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        seen = os.fstat(file)
        if seen.st_blocks * _STAT_BLOCK_BYTES <= 2 * keep_bytes:
            return False
        end = (seen.st_size - keep_bytes) // _BLOCK_BYTES * _BLOCK_BYTES
        if end > 0 and not _punch(file, end):
            os.ftruncate(file, 0)
        return end > 0
    finally:
        os.close(file)


def _punch(file: int, length: int) -> bool:
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return bool(fallocate(file, _PUNCH_HOLE | _KEEP_SIZE, 0, length) == 0)

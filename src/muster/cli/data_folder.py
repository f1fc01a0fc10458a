"""A cloud's data folder belongs to one process at a time, and what is in it to one user.

Invariants: the right to it is a lock that the kernel takes back when the process ends, however it ends. Whatever the
process makes while it has the folder is readable by its owner only, also where the folder itself is not.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from muster.base.descriptors import is_readable
from muster.base.errors import Conflict, Invalid, Transient
from muster.base.file_lock import take_lock

_LOCK = "lock"
#: The lock of a folder that `muster serve` has: its images belong to a cluster's database.
SERVE_LOCK = "serve.lock"
_ADVICE = {_LOCK: "Stop it with `muster down --data {}`, or choose another --data."}
_PRIVATE_UMASK = 0o077
#: SQLite gives the files beside a database the mode of the database.
_DATABASES = "muster.db*"


@contextlib.contextmanager
def held(folder: Path, *, lock: str = _LOCK) -> Iterator[None]:
    """Make the folder, readable by its owner only, and hold it. Raises Conflict if another process has it, Invalid.

    Processes with `lock`s of different names share a folder, each for its own part of what is in it.
    Until the end, files that this process makes are readable by their owner only (its umask).
    """
    umask = os.umask(_PRIVATE_UMASK)
    try:
        with _locked(folder, lock):
            yield
    finally:
        os.umask(umask)


@contextlib.contextmanager
def _locked(folder: Path, lock: str) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make_private(folder)
        descriptor = os.open(folder / lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Invalid(f"{folder} cannot be used: {error.strerror}") from error
    try:
        if not take_lock(descriptor):
            advice = _ADVICE.get(lock, "").format(folder)
            raise Conflict(f"Another muster runs in {folder} (process {_owner(descriptor)}). {advice}".rstrip())
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _make_private(folder: Path) -> None:
    """What was there before is private too: the folder if nothing of others is in it, and a database in any case."""
    if folder.stat().st_uid != os.geteuid():
        return
    if not any(folder.iterdir()):
        folder.chmod(0o700)
    for database in folder.glob(_DATABASES):
        database.chmod(0o600)


def stop_owner(folder: Path, timeout_s: float) -> bool:
    """The process that has the folder has ended, asked by SIGTERM; False when none has it. Raises Transient."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        process = _owning_process(descriptor)
        if process is None:
            return False
        try:
            signal.pidfd_send_signal(process, signal.SIGTERM)
            if not is_readable(process, timeout_s):
                raise Transient(f"muster (process {_owner(descriptor)}) does not end; end it with kill -9")
        finally:
            os.close(process)
    finally:
        os.close(descriptor)
    return True


def _owning_process(descriptor: int) -> int | None:
    """A pidfd of the process that has the lock: opened first, and the lock looked at after, since pids are reused."""
    with contextlib.suppress(ValueError, ProcessLookupError):
        process = os.pidfd_open(int(_owner(descriptor)))
        if not take_lock(descriptor):
            return process
        os.close(process)
    return None


def _owner(descriptor: int) -> str:
    return os.pread(descriptor, 20, 0).decode(errors="replace").strip()

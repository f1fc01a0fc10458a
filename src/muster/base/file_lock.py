"""A lock on an open file, which the kernel takes back when the last process that has it open ends, however it ends."""

import fcntl


def take_lock(descriptor: int) -> bool:
    """Whether the file is this process's alone now; never waits. Closing the file gives the lock back (flock(2))."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

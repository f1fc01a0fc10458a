"""Entering network namespaces."""

import ctypes

_CLONE_NEWNET = 0x40000000


def enter(name: str) -> None:
    """This thread is in the named network namespace from now on; let no other work use it."""
    with open(f"/run/netns/{name}", encoding="ascii") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {name}")

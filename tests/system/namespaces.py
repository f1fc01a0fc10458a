"""Entering network namespaces."""

import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar

_CLONE_NEWNET = 0x40000000

T = TypeVar("T")


def enter(name: str) -> None:
    """This thread is in the named network namespace from now on; let no other work use it."""
    with open(f"/run/netns/{name}", encoding="ascii") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {name}")


def inside(namespace: str, work: Callable[[], T]) -> T:
    """What `work` gives in a thread that has entered a network namespace."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            enter(namespace)
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)  # one that hangs keeps nobody from ending
    thread.start()
    thread.join(300)
    assert not thread.is_alive(), "still running inside the namespace"
    if errors:
        raise errors[0]
    return results[0]

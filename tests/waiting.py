"""Waiting for what happens, where nothing is asynchronous."""

import time
from collections.abc import Callable
from typing import Any

from tests.commands import HANG_S


def eventually(what: str, check: Callable[[], Any], timeout_s: float = HANG_S, every_s: float = 0.25) -> Any:
    """Wait until `check` is true; its value."""
    deadline = time.monotonic() + timeout_s
    while not (value := check()):
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(every_s)
    return value

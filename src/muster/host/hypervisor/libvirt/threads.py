"""Threads for calls to libvirt, which may never return: a daemon that hangs keeps no process from its end.

Python waits for the threads of its own pools when a process ends, however long their calls take.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

_T = TypeVar("_T")


class Threads:
    """`count` of them, begun with the first call."""

    def __init__(self, count: int) -> None:
        self._threads = [Thread(target=self._work, name=f"libvirt-{n}", daemon=True) for n in range(count)]
        self._waiting: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._have_begun = False

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Have it done by the next thread that is free. For one thread, the event loop's."""
        if not self._have_begun:
            self._have_begun = True
            for thread in self._threads:
                thread.start()
        future: Future[_T] = Future()
        self._waiting.put((future, work))
        return future

    def end(self, within_s: float) -> bool:
        """Whether all that was submitted is done, after `within_s` at most. To be called once, and last; it blocks."""
        if not self._have_begun:
            return True
        for _ in self._threads:
            self._waiting.put(None)
        until = time.monotonic() + within_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (asked := self._waiting.get()) is not None:
            future, work = asked
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:  # whatever it is, it is for who asked
                    future.set_exception(error)
            del asked, future, work  # a result that nobody wants any more does not stay for the next call

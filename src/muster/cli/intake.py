"""Accepts connections for one of a machine's workers, and leaves them to the others while it has its fill.

What nobody has accepted waits in the kernel, in one queue that all workers take from. So of a burst each worker has
what it can answer, and one that dies takes with it no more than that. Who is slow, such as a host that fetches an image
or a client that asks nothing, shuts nobody out: who is still waited for REST_S after the worker had its fill is counted
no more.
"""

import asyncio
import errno
import socket
from collections.abc import Callable

from muster.base.log import get_logger

log = get_logger(__name__)

# What a machine's workers take on together, and each one at least: enough for batches of a hundred.
_TOGETHER, _LEAST = 1_024, 256
#: How long a worker that is full waits for answers of its own, in seconds, before it takes on more.
REST_S = 2.0
# Taken in one turn of the event loop: their requests share what is read from the database.
_AT_A_TIME = 32
# When the process or the machine has no more files to open: how long until it is tried again.
_AGAIN_S = 1.0
_USED_UP = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
# More than the kernel keeps of those that nobody has accepted.
_LONGEST_QUEUE = 65_536


def share(workers: int) -> int:
    """How many connections one of so many workers takes on at once."""
    return max(_LEAST, _TOGETHER // workers)


class Intake:
    """Full with `at_once` connections to which an answer is due, until no more than half of them are left."""

    def __init__(self, at_once: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._at_once = at_once
        self._due: set[asyncio.Protocol] = set()
        self._is_full = False
        self._listeners: dict[socket.socket, Callable[[], asyncio.Protocol]] = {}
        self._again: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._emptied = asyncio.Event()
        self._connecting: set[asyncio.Task[object]] = set()

    def accept(self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Accept from now on, each connection with a protocol of its own."""
        listener.setblocking(False)
        self._listeners[listener] = protocol
        self._go_on()

    def close(self) -> None:
        """Accept what waits, full or not: there may be nobody else to take it. Then the sockets are closed.

        Where there are no more files to open, it goes on once there are: others close theirs meanwhile.
        """
        self._stop()
        self._is_closing = True
        self._go_on()

    async def emptied(self) -> None:
        """After `close`: until all that waited is accepted. Who is cancelled meanwhile gives up the rest."""
        try:
            await self._emptied.wait()
            if self._connecting:
                await asyncio.wait(self._connecting)
        finally:
            self._stop()

    def begin(self, connection: asyncio.Protocol) -> None:
        """It has been accepted, or asks something."""
        self._due.add(connection)
        self._look()

    def end(self, connection: asyncio.Protocol) -> None:
        """It has been answered, or is closed."""
        self._due.discard(connection)
        self._look()

    def _look(self) -> None:
        if self._is_closing:
            return
        is_full = len(self._due) > (self._at_once // 2 if self._is_full else self._at_once - 1)
        if is_full is self._is_full:
            return
        self._is_full = is_full
        self._stop()
        if is_full:
            self._again = self._loop.call_later(REST_S, self._pass_over)
        else:
            self._go_on()

    def _pass_over(self) -> None:
        self._due.clear()
        self._look()

    def _go_on(self) -> None:
        if self._is_closing:
            self._accept_all()
            return
        for listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept_some, listener)

    def _stop(self) -> None:
        for listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _accept_some(self, listener: socket.socket) -> None:
        for _ in range(_AT_A_TIME):
            if self._is_full or not self._accept_one(listener, self._listeners[listener]):
                return

    def _accept_all(self) -> None:
        for listener, protocol in self._listeners.items():
            for _ in range(_LONGEST_QUEUE):
                if not self._accept_one(listener, protocol):
                    break
            if self._again is not None:
                return
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._emptied.set()

    def _accept_one(self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol]) -> bool:
        """Whether there may be more."""
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno not in _USED_UP:
                return True  # it was gone again
            log.error("no connection can be accepted", action="accept.delayed", error=error.strerror)
            self._stop()
            self._again = self._loop.call_later(_AGAIN_S, self._try_again)
            return False
        self._connect(accepted, protocol())
        return True

    def _try_again(self) -> None:
        self._again = None
        self._go_on()

    def _connect(self, accepted: socket.socket, protocol: asyncio.Protocol) -> None:
        accepted.setblocking(False)
        self.begin(protocol)
        task = self._loop.create_task(self._loop.connect_accepted_socket(lambda: protocol, accepted))
        self._connecting.add(task)

        def connected(task: asyncio.Task[object]) -> None:
            self._connecting.discard(task)
            if task.cancelled() or task.exception() is not None:  # then nobody else says that it is over
                accepted.close()
                self.end(protocol)

        task.add_done_callback(connected)

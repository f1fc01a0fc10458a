"""The one connection to libvirt: calls in a bounded pool of threads, events from the library's own loop.

Invariants: no call blocks the event loop; at most `threads` calls are in flight; after a lost connection the next call
opens a new one; every libvirt error leaves here as one of `base.errors`; a daemon that hangs does not keep us.
"""

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import libvirt

from muster.base.errors import Conflict, Invalid, MusterError, NotFound, Transient
from muster.base.log import get_logger
from muster.base.metrics import LIBVIRT_CALLS
from muster.host.hypervisor.libvirt.threads import Threads

_T = TypeVar("_T")

_KEEPALIVE_INTERVAL_S = 5
_KEEPALIVE_COUNT = 6
_MUTE_S = 30.0
# How long who leaves waits for calls in flight: longer than those take that are answered at all.
_LEAVE_S = 20.0

_CONFLICTS = {libvirt.VIR_ERR_DOM_EXIST, libvirt.VIR_ERR_OPERATION_INVALID}
_INVALID = {libvirt.VIR_ERR_XML_ERROR, libvirt.VIR_ERR_XML_DETAIL, libvirt.VIR_ERR_CONFIG_UNSUPPORTED}
_AWAY = {
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_INVALID_CONN,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_OPERATION_TIMEOUT,
    libvirt.VIR_ERR_AUTH_FAILED,
}
#: A connection that broke, or was closed for the daemon's silence, is one of these of libvirt's client's own.
_BROKEN = {libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_ERR_INTERNAL_ERROR}
_OF_THE_CLIENT = {libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE}

log = get_logger(__name__)


class LibvirtFailed(MusterError):
    """libvirt or QEMU could not do what was asked, for a reason of its own."""

    code = "muster.host.libvirt_failed"


#: What happened to a domain: its UUID, its name, libvirt's lifecycle event.
OnEvent = Callable[[str, str, int], None]
#: What a guest has let go of: the domain's UUID, the device's alias.
OnRemoved = Callable[[str, str], None]


class Connection:
    """A shared connection. Must be made where an event loop runs; `on_...` are called in it."""

    def __init__(
        self, uri: str, threads: int, *, on_event: OnEvent, on_removed: OnRemoved, on_lost: Callable[[], None]
    ) -> None:
        self._uri = uri
        self._loop = asyncio.get_running_loop()
        self._on_event = on_event
        self._on_removed = on_removed
        self._on_lost = on_lost
        self._threads = Threads(threads)
        self._opening = threading.Lock()
        self._connection: Any = None
        self._listening: list[int] = []  # numbers of its callbacks
        self._closed = False
        self.calls = 0

    async def call(self, action: Callable[[Any], _T], n_calls: int = 1) -> _T:
        """Run `action` with the connection in the pool; `n_calls` is what it costs, for `calls`.

        Raises NotFound (no such domain), Conflict (it exists, or its state forbids it), Invalid, Transient (libvirt
        is away), LibvirtFailed.
        """
        if self._closed:
            raise Transient("the connection to libvirt was closed")
        self.calls += n_calls
        LIBVIRT_CALLS.inc(n_calls)
        return await asyncio.wrap_future(self._threads.submit(functools.partial(self._run, action)))

    async def close(self) -> None:
        """Leave; domains keep running. Waits for calls in flight, 20 s at most: the next start looks at what became of
        them."""
        self._closed = True
        await self._loop.run_in_executor(None, self._shut)

    def _run(self, action: Callable[[Any], _T]) -> _T:
        try:
            return action(self._opened())
        except libvirt.libvirtError as error:
            raise translated(error) from error

    def _opened(self) -> Any:
        with self._opening:
            if self._closed:
                raise Transient("the connection to libvirt was closed")
            if self._connection is not None and not self._connection.isAlive():
                # Nobody listens any more once it has been left, so who is to hear of the loss is told here.
                self._tell(self._on_lost)
                self._leave()
            if self._connection is None:
                self._connection = self._open()
            return self._connection

    def _open(self) -> Any:
        start_event_loop()
        with _told_when_mute(self._uri):
            connection = libvirt.open(self._uri)
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            # A daemon that hangs is found by its silence; in-process drivers know no keepalive.
            with contextlib.suppress(libvirt.libvirtError):
                connection.setKeepAlive(_KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT)
            connection.registerCloseCallback(self._lost, None)
            self._listening = [
                connection.domainEventRegisterAny(None, event, listener, None)
                for event, listener in (
                    (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._happened),
                    (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._removed),
                )
            ]
            undo.pop_all()
        return connection

    def _leave(self) -> None:
        """Who listens holds the connection open, whatever `close` says, and the daemon has room for so many."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        for number in self._listening:
            with contextlib.suppress(libvirt.libvirtError):
                connection.domainEventDeregisterAny(number)
        with contextlib.suppress(libvirt.libvirtError):
            connection.unregisterCloseCallback()
        with contextlib.suppress(libvirt.libvirtError):
            connection.close()

    def _shut(self) -> None:
        if self._threads.end(_LEAVE_S):
            self._leave()
        else:  # whoever hangs may be opening the connection, and hold what guards it
            log.error(
                "libvirtd does not answer, and is left with calls in flight", action="libvirt_left", uri=self._uri
            )

    # The three below run in the thread of libvirt's loop.
    def _happened(self, _connection: Any, domain: Any, event: int, _detail: int, _opaque: Any) -> None:
        self._tell(self._on_event, domain.UUIDString(), domain.name(), event)

    def _removed(self, _connection: Any, domain: Any, alias: str, _opaque: Any) -> None:
        self._tell(self._on_removed, domain.UUIDString(), alias)

    def _lost(self, _connection: Any, _reason: int, _opaque: Any) -> None:
        self._tell(self._on_lost)

    def _tell(self, listener: Callable[..., None], *what: object) -> None:
        # After the loop has ended nobody listens any more.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(listener, *what)


@contextlib.contextmanager
def _told_when_mute(uri: str) -> Iterator[None]:
    """libvirt waits for ever for a daemon that takes the connection and hangs; nothing else would be heard of it."""
    what = "libvirtd takes connections and does not answer; restart it, guests go on meanwhile"
    timer = threading.Timer(_MUTE_S, log.error, (what,), {"action": "libvirt_mute", "uri": uri})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def translated(error: libvirt.libvirtError) -> MusterError:
    """One of Muster's errors for one of libvirt's. Source: libvirt's virterror.h."""
    code, text = error.get_error_code(), str(error)
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return NotFound(text)
    if code in _AWAY or (code in _BROKEN and error.get_error_domain() in _OF_THE_CLIENT):
        return Transient(f"libvirt is away: {text}", retry_after_s=1.0)
    if code in _CONFLICTS:
        return Conflict(text)
    if code in _INVALID:
        return Invalid(text)
    return LibvirtFailed(text)


@functools.cache
def start_event_loop() -> threading.Thread:
    """libvirt's event loop, in a thread of its own: one per process, as the library wants it, and before any open."""
    libvirt.virEventRegisterDefaultImpl()
    # The library's default handler prints to standard error what is raised as an exception anyway.
    libvirt.registerErrorHandler(lambda *_: None, None)

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    thread = threading.Thread(target=run, name="libvirt-events", daemon=True)
    thread.start()
    return thread

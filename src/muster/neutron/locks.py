"""The lock that a batch holds while it decides: none, Tooz's, or etcd's.

Its purpose is that workers queue outside the database, first come, first served. It is not what makes an allocation
right: that is the subnet's row, locked in the same transaction, and the primary key. So a lock that is lost, or a lock
service that gives one lock to two, costs time and nothing else.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol
from urllib.parse import urlsplit

from tooz import coordination

from muster.base.errors import Invalid, Transient
from muster.locks import etcd_settings
from muster.neutron.bound import Bound
from muster.neutron.etcd_lock import EtcdLocks

_ETCD = frozenset({"etcd", "etcds"})
# These queue by themselves; the others poll, and would be asked again after this long.
_POLL_S = 1.0
# How long a backend may be silent. Redis' client in Tooz says only after a minute that its server is away.
_ANSWER_S = 5.0


class Locks(Protocol):
    """Named locks between processes."""

    def hold(self, name: str) -> AbstractContextManager[None]:
        """Wait for a lock and hold it. Raises Transient when the service is away or the wait takes too long."""
        ...


class NoLocks:
    """The database alone: the subnet's row is the lock."""

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        yield


class ToozLocks:
    """Locks of any Tooz backend. One connection per process, made when it is first needed."""

    def __init__(self, url: str, wait_s: float) -> None:
        self._url = url
        self._wait_s = wait_s
        self._connecting = threading.Lock()
        self._guard = threading.Lock()
        self._coordinator: Any = None
        self._bound = Bound(_ANSWER_S + _POLL_S)

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        deadline = time.monotonic() + self._wait_s
        while (lock := self._asked(lambda coordinator: _acquired(coordinator, name), _release)) is None:
            if time.monotonic() > deadline:
                raise Transient(f"The lock {name} could not be had within {self._wait_s:.0f} s")
        try:
            yield
        finally:
            # What was done under it has been done; it runs out by itself. Not by way of `_asked`: the lock may be of an
            # older connection than the present one, which is not to be given up for it.
            with suppress(Exception):
                self._bound.call(lambda: _release(lock))

    def _asked(self, question: Callable[[Any], Any], undo: Callable[[Any], None] = lambda _: None) -> Any:
        """What the backend answers. After an error the connection is made anew: it may be of a server that is gone."""
        used: list[Any] = []

        def ask() -> Any:
            used.append(self._connected())
            return question(used[0])

        try:
            return self._bound.call(ask, undo)
        except Exception as error:  # Tooz's drivers let errors of their libraries through
            for coordinator in used:
                self._give_up(coordinator)
            raise Transient(f"The lock service does not answer: {error}") from error

    def _give_up(self, coordinator: Any) -> None:
        with self._guard:
            if coordinator is not self._coordinator:  # another has done so; who holds locks of the next one keeps them
                return
            self._coordinator = None
        threading.Thread(target=_stop, args=(coordinator,), daemon=True).start()

    def _connected(self) -> Any:
        with self._connecting:  # for a minute, if the server is away: only threads of `Bound` wait here
            if self._coordinator is None:
                member = f"muster-ipam-{socket.gethostname()}-{os.getpid()}"
                coordinator = coordination.get_coordinator(self._url, member.encode())
                coordinator.start(start_heart=True)
                self._coordinator = coordinator
            return self._coordinator


def _acquired(coordinator: Any, name: str) -> Any:
    """The lock, held, or None when it could not be had soon."""
    lock = coordinator.get_lock(name.replace("/", "-").encode())
    try:
        return lock if lock.acquire(blocking=_POLL_S) else None
    except Exception as error:
        if type(error).__name__ == "RetryError":  # how Tooz's etcd driver says that the time is over
            return None
        raise


def _release(lock: Any) -> None:
    if lock is not None:
        lock.release()


def _stop(coordinator: Any) -> None:
    """End its thread and its connections."""
    with suppress(Exception):
        coordinator.stop()


def open_locks(url: str, lease_s: int, wait_s: float) -> Locks:
    """The locks that a URL names: empty for none, `etcd://` and `etcds://` (see `locks.etcd_settings`), or Tooz's.

    Connects to nothing yet. Raises Invalid for a URL that is not understood.
    """
    if not url:
        return NoLocks()
    scheme = urlsplit(url).scheme
    if "://" not in url:
        raise Invalid("lock_url must be a URL: etcd://host:port, or a URL of Tooz")
    if scheme in _ETCD:
        return EtcdLocks(etcd_settings.from_url(url), lease_s, wait_s)
    try:
        coordination.get_coordinator(url, b"check")
    except Exception as error:  # of Tooz, or of stevedore, which looks for the driver
        raise Invalid(f"lock_url is not understood: {error}") from error
    return ToozLocks(url, wait_s)

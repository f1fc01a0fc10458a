"""Locks of any Tooz backend (`file://`, `etcd3+http://`, `zookeeper://`, `redis://`, ...).

Tooz is blocking, so each call runs in a thread of a small pool; releases have a pool of their own, so that waiters can
never keep a holder from releasing. Within a process waiting is a queue per name: first come, first served, and at most
one thread waits in the backend for one name. Tooz knows no fencing token; for `file://` a counter beside the lock, read
and raised while the lock is held, is the token. Other backends get theirs the same way only if they share that
directory, and none tells that a lease was lost, so etcd has a native adapter of its own.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import tenacity
import tooz
from tooz import coordination
from tooz.locking import Lock

from muster.base.errors import Invalid, Transient
from muster.base.log import get_logger
from muster.base.metrics import LOCK_HOLD_SECONDS, LOCK_WAIT_SECONDS
from muster.locks.protocol import Grant

log = get_logger(__name__)

Result = TypeVar("Result")

# A waiter looks up this often whether it is still wanted. ZooKeeper keeps a queue, in which it would lose its place;
# the other backends poll anyway.
_LOOK_UP_S = 1.0
_QUEUEING = frozenset({"zookeeper", "kazoo"})


class ToozLocks:
    """See `locks.protocol.LockService`. A grant costs one acquire and one release in the backend."""

    def __init__(self, url: str, member_id: str, token_dir: Path, *, max_threads: int = 32) -> None:
        """`url` is Tooz's; `token_dir` keeps the fencing counters and is made if it is missing. Raises Invalid."""
        token_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._token_dir = token_dir
        self._pool = ThreadPoolExecutor(max_threads, thread_name_prefix="locks")
        self._releases = ThreadPoolExecutor(max_threads, thread_name_prefix="locks-release")
        self._queues: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._late: set[asyncio.Task[None]] = set()
        self._blocking: bool | float = True if urlsplit(url).scheme in _QUEUEING else _LOOK_UP_S
        self._coordinator = _coordinator(url, member_id)

    async def start(self) -> None:
        """Connect. Raises Transient when the backend is away."""
        await _call(self._pool, lambda: self._coordinator.start(True))

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[Grant]:
        kind = name.partition("/")[0]
        asked = time.monotonic()
        queue = self._queues.setdefault(name, asyncio.Lock())
        async with queue:
            lock = self._coordinator.get_lock(_safe(name).encode())
            token = await self._take(lock, name)
            taken = time.monotonic()
            LOCK_WAIT_SECONDS.labels(kind).observe(taken - asked)
            try:
                yield Grant(name, token)
            finally:
                await asyncio.shield(self._give_back(lock, name))
                LOCK_HOLD_SECONDS.labels(kind).observe(time.monotonic() - taken)

    @asynccontextmanager
    async def hold_all(self, names: Sequence[str]) -> AsyncIterator[dict[str, Grant]]:
        async with AsyncExitStack() as stack:
            yield {name: await stack.enter_async_context(self.hold(name)) for name in sorted(set(names))}

    async def close(self) -> None:
        for task in list(self._late):
            task.cancel()
        await _call(self._releases, self._coordinator.stop)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._releases.shutdown(wait=False)

    async def _take(self, lock: Lock, name: str) -> int:
        """Wait for the lock; returns its token. A caller that is cancelled leaves, and its thread with it."""
        left = _Left()
        try:
            return await _call(self._pool, lambda: self._acquire(lock, name, left))
        except asyncio.CancelledError:
            # The thread knows of no cancellation: it gives back what it has, or gives up at its next look.
            if left.leave():
                await asyncio.shield(self._give_back(lock, name))
            raise

    async def _give_back(self, lock: Lock, name: str) -> None:
        """Release. A backend that is away is tried again beside: what was done under the lock has been done."""
        try:
            await _call(self._releases, lock.release)
        except Transient as error:
            log.warning("lock not released yet", action="locks.release", lock=name, error=error.message)
            task = asyncio.create_task(self._give_back_later(lock, name))
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def _give_back_later(self, lock: Lock, name: str) -> None:
        await asyncio.sleep(_LOOK_UP_S)
        await self._give_back(lock, name)

    def _acquire(self, lock: Lock, name: str, left: "_Left") -> int:
        while not self._try(lock):
            if left.is_set:
                return 0
        try:
            token = self._next_token(name)
        except BaseException:
            lock.release()
            raise
        if not left.hand_over():
            lock.release()
        return token

    def _try(self, lock: Lock) -> bool:
        try:
            return bool(lock.acquire(blocking=self._blocking))  # type: ignore[arg-type]  # a float is its time-out
        except tenacity.RetryError:  # how Tooz's etcd driver says that the time is over
            return False

    def _next_token(self, name: str) -> int:
        """A number higher than all before it. It follows the clock (microseconds), so that it grows on also when the
        counter was lost or damaged (a power failure, a folder that was cleared) or another engine's tokens came before;
        and the counter, should the clock be set back.
        """
        path = self._token_dir / (_safe(name) + ".token")
        before = path.read_text(errors="replace") if path.exists() else ""
        token = max(1 + int(before) if before.isdecimal() else 1, time.time_ns() // 1_000)
        scratch = path.with_suffix(".new")
        scratch.write_text(str(token))
        os.replace(scratch, path)  # whole or not at all, also when the process dies here
        return token


class _Left:
    """Between a caller and its thread: who has the lock when the caller leaves while the thread takes it."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._handed_over = False
        self.is_set = False

    def leave(self) -> bool:
        """The caller leaves; True if the lock is its own to release."""
        with self._turn:
            self.is_set = True
            return self._handed_over

    def hand_over(self) -> bool:
        """The thread has the lock; False if nobody is there to have it."""
        with self._turn:
            self._handed_over = not self.is_set
            return self._handed_over


async def _call(pool: Executor, function: Callable[[], Result]) -> Result:
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, function)
    except tooz.ToozError as error:
        raise Transient(f"The lock service does not answer: {error}", retry_after_s=1.0) from error


def _coordinator(url: str, member_id: str) -> coordination.CoordinationDriver:
    try:
        return coordination.get_coordinator(url, member_id.encode())
    except (RuntimeError, ImportError, ValueError, tooz.ToozError) as error:  # its plugins' loader raises RuntimeErrors
        raise Invalid(f"Tooz has no lock service for URLs that begin with {urlsplit(url).scheme}://") from error


def _safe(name: str) -> str:
    """A lock's name as a file name."""
    return name.replace("/", "-")

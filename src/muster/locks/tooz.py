"""Locks of any Tooz backend (`file://`, `etcd3+http://`, `zookeeper://`, `redis://`, ...).

Tooz is blocking, so each call runs in a thread of a small pool. Within a process waiting is a queue per name: first
come, first served, and at most one thread waits in the backend for one name. Tooz knows no fencing token; for `file://`
a counter beside the lock, read and raised while the lock is held, is the token. Other backends get theirs the same
way only if they share that directory, so etcd has a native adapter of its own.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import tooz
from tooz import coordination
from tooz.locking import Lock

from muster.base.errors import Transient
from muster.base.metrics import LOCK_HOLD_SECONDS, LOCK_WAIT_SECONDS
from muster.locks.protocol import Grant


class ToozLocks:
    """See `locks.protocol.LockService`. A grant costs one acquire and one release in the backend."""

    def __init__(self, url: str, member_id: str, token_dir: Path, *, max_threads: int = 8) -> None:
        """`url` is Tooz's; `token_dir` keeps the fencing counters and is made if it is missing."""
        token_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._token_dir = token_dir
        self._pool = ThreadPoolExecutor(max_threads, thread_name_prefix="locks")
        self._queues: dict[str, asyncio.Lock] = {}
        self._coordinator = coordination.get_coordinator(url, member_id.encode())

    async def start(self) -> None:
        """Connect. Raises Transient when the backend is away."""
        await self._call(self._coordinator.start, True)

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[Grant]:
        kind = name.partition("/")[0]
        asked = time.monotonic()
        async with self._queues.setdefault(name, asyncio.Lock()):
            lock = self._coordinator.get_lock(_safe(name).encode())
            token = await self._call(self._acquire, lock, name)
            taken = time.monotonic()
            LOCK_WAIT_SECONDS.labels(kind).observe(taken - asked)
            try:
                yield Grant(name, token)
            finally:
                await asyncio.shield(self._call(lock.release))
                LOCK_HOLD_SECONDS.labels(kind).observe(time.monotonic() - taken)

    @asynccontextmanager
    async def hold_all(self, names: Sequence[str]) -> AsyncIterator[dict[str, Grant]]:
        async with AsyncExitStack() as stack:
            yield {name: await stack.enter_async_context(self.hold(name)) for name in sorted(set(names))}

    async def close(self) -> None:
        await self._call(self._coordinator.stop)
        self._pool.shutdown(wait=False)

    def _acquire(self, lock: Lock, name: str) -> int:
        if not lock.acquire(blocking=True):
            raise Transient(f"The lock {name} could not be had")
        try:
            return self._next_token(name)
        except BaseException:
            lock.release()
            raise

    def _next_token(self, name: str) -> int:
        path = self._token_dir / (_safe(name) + ".token")
        token = 1 + (int(path.read_text() or 0) if path.exists() else 0)
        scratch = path.with_suffix(".new")
        scratch.write_text(str(token))
        os.replace(scratch, path)  # whole or not at all, also when the process dies here
        return token

    async def _call(self, function: object, *args: object) -> int:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, function, *args)  # type: ignore[arg-type]
        except tooz.ToozError as error:
            raise Transient(f"The lock service does not answer: {error}", retry_after_s=1.0) from error


def _safe(name: str) -> str:
    """A lock's name as a file name."""
    return name.replace("/", "-")

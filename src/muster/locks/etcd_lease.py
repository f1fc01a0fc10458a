"""A lease in etcd: what makes a lock's place in the queue go away with the process that stood there.

Invariants: `gone` is set as soon as etcd says that the lease is over, or its time has run out on our own clock without
a renewal. A lease's id is drawn here, not by etcd, so it can be revoked even if the answer to its making never came.
"""

import asyncio
import secrets
import time
from collections.abc import Coroutine
from typing import Any

import grpc.aio
from grpc import StatusCode

from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.locks.etcd_members import Members

log = get_logger(__name__)

_WATCH_AFTER_S = 0.2  # a lock is usually held for less: the watch would cost more than it tells
_PAUSE_S = 0.1


class Lease:
    """Renewed from `grant` to `end`."""

    def __init__(self, members: Members, ttl_s: int) -> None:
        self._members = members
        self._ttl_s = ttl_s
        self.id = secrets.randbits(62) + 1
        self.gone = asyncio.Event()
        self._until = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def grant(self) -> None:
        """Make the lease and keep it alive. Raises Transient. One round trip."""
        asked = time.monotonic()
        try:
            self._ttl_s = await self._members.ask(lambda member: member.grant(self.id, self._ttl_s))
        except grpc.aio.AioRpcError as error:
            if error.code() is not StatusCode.FAILED_PRECONDITION:
                raise Transient(f"etcd makes no lease: {error.details()}") from error
            # It was made by a try whose answer got lost.
        self._until = asked + self._ttl_s
        self._start(self._keep())

    def watch(self, key: bytes, revision: int) -> None:
        """Notice at once when `key`, made at `revision`, goes away: someone revoked the lease, or it ran out."""
        self._start(self._watch(key, revision))

    @property
    def watched(self) -> bool:
        """Whether a key is watched already; all of a lease's keys go at once."""
        return len(self._tasks) > 1

    def stop(self) -> None:
        """Renew no more."""
        for task in self._tasks:
            task.cancel()

    async def revoke(self) -> None:
        """End the lease in etcd, as far as etcd answers; else it runs out by itself."""
        try:
            await self._members.ask(lambda member: member.revoke(self.id))
        except grpc.aio.AioRpcError as error:
            log.debug("no such lease any more", action="locks.revoke", error=error.details())
        except Transient as error:
            log.warning("lease left to run out", action="locks.revoke", error=error.message)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Whenever this work ends by itself, the lease is gone."""
        task = asyncio.create_task(work, name="etcd lease")
        task.add_done_callback(lambda done: None if done.cancelled() else self.gone.set())
        self._tasks.append(task)

    async def _keep(self) -> None:
        ttl_s = self._ttl_s
        while ttl_s > 0:
            await asyncio.sleep(max(0.0, min(self._ttl_s / 3, self._until - time.monotonic())))
            ttl_s = await self._renew()

    async def _renew(self) -> int:
        """The renewed time to live; 0 when the lease is over."""
        while (left := self._until - time.monotonic()) > 0:
            asked = time.monotonic()
            try:
                async with asyncio.timeout(left):
                    ttl_s = await self._members.ask(lambda member: member.keep_alive(self.id))
            except (Transient, TimeoutError):  # a refusal comes at once
                await asyncio.sleep(_PAUSE_S)
                continue
            self._until = asked + ttl_s
            return ttl_s
        return 0

    async def _watch(self, key: bytes, revision: int) -> None:
        await asyncio.sleep(_WATCH_AFTER_S)
        while not await deleted(self._members, key, revision + 1):
            continue


async def deleted(members: Members, key: bytes, revision: int) -> bool:
    """Wait until `key` is deleted at or after `revision`; False, after a pause, when the watch broke before."""
    member = members.current
    try:
        if await member.deleted(key, revision):
            return True
    except grpc.aio.AioRpcError:
        members.failed(member)
    await asyncio.sleep(_PAUSE_S)
    return False

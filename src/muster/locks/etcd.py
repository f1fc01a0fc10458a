"""Locks of etcd, by its own recipe: a key per waiter, the oldest revision holds, each waits for the one before it.

`etcdctl lock PREFIX/NAME` queues for the same locks. Invariants: first come, first served, over all processes; waiting
is a watch on the one before, never polling; a key hangs on a lease, so nobody who is gone is waited for longer than
that; whatever happens, the lease of a hold is revoked or runs out.

The fencing token is the revision at which the waiter queued, on top of the time at which this etcd was first used for
locks (`epoch`): so tokens grow on also when a cluster is built anew and its revisions begin again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import grpc.aio
from aetcd import rpc

from muster.base.errors import Transient
from muster.base.metrics import LOCK_HOLD_SECONDS, LOCK_WAIT_SECONDS
from muster.locks.etcd_lease import Lease, deleted
from muster.locks.etcd_members import Members
from muster.locks.etcd_settings import EtcdSettings
from muster.locks.protocol import Grant

Result = TypeVar("Result")

_ROUNDS = 3


class _Gone(Exception):
    """The lease ended while its owner waited."""


class EtcdLocks:
    """See `locks.protocol.LockService`. n names that nobody holds cost n + 1 round trips to take, one to release."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        self._epoch_key = f"{settings.prefix}/.epoch".encode()
        self._members = Members(settings)
        self._ending: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Make sure that etcd answers. Raises Transient when it is away, Refused when it does not let us in."""
        await self._epoch()

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[Grant]:
        async with self.hold_all([name]) as grants:
            yield grants[name]

    @asynccontextmanager
    async def hold_all(self, names: Sequence[str]) -> AsyncIterator[dict[str, Grant]]:
        wanted = sorted(set(names))
        if not wanted:
            yield {}
            return
        lease, grants = await self._take(wanted)
        taken = time.monotonic()
        try:
            yield grants
        finally:
            await self._end(lease)
            for name in wanted:
                LOCK_HOLD_SECONDS.labels(_kind(name)).observe(time.monotonic() - taken)

    async def close(self) -> None:
        """Wait until what was released is free, and disconnect."""
        if self._ending:
            await asyncio.wait(self._ending)
        await self._members.close()

    async def _take(self, names: Sequence[str]) -> tuple[Lease, dict[str, Grant]]:
        for _ in range(_ROUNDS):
            lease = Lease(self._members, self._settings.lease_s)
            try:
                await lease.grant()
                return lease, {name: await self._take_one(name, lease) for name in names}
            except _Gone:  # paused, or cut off, for longer than a lease: queue again
                await self._end(lease)
            except BaseException:
                await self._end(lease)
                raise
        raise Transient(f"The lock {names[0]} was lost while waiting", retry_after_s=1.0)

    async def _take_one(self, name: str, lease: Lease) -> Grant:
        asked = time.monotonic()
        queue = f"{self._settings.prefix}/{name}/".encode()
        key = queue + f"{lease.id:x}".encode()
        places, epoch, now = await self._join(queue, key, lease)
        mine = next((place for place in places if place.key == key), None)
        contended = len(places) > 1
        while mine is not None and len(places) > 1:
            await self._wait(places[1].key, now + 1, lease)
            places, now = await self._look(queue, mine.create_revision)
            mine = places[0] if places and places[0].key == key else None
        if mine is None or lease.gone.is_set():
            raise _Gone
        if not lease.watched:
            lease.watch(key, mine.create_revision)
        LOCK_WAIT_SECONDS.labels(_kind(name)).observe(time.monotonic() - asked)
        grant = Grant(name, epoch + mine.create_revision)
        grant.lost = lease.gone
        grant.contended = contended
        return grant

    async def _join(self, queue: bytes, key: bytes, lease: Lease) -> tuple[list[Any], int, int]:
        """Queue with `key`: the place taken and the one before it, the epoch, and the revision. One round trip.

        Sent twice, it is carried out once.
        """
        epoch = rpc.RequestOp(request_range=rpc.RangeRequest(key=self._epoch_key))
        mine = rpc.RequestOp(request_range=rpc.RangeRequest(key=key))
        put = rpc.RequestOp(request_put=rpc.PutRequest(key=key, lease=lease.id))
        ahead = rpc.RequestOp(request_range=_newest_two(queue))
        request = rpc.TxnRequest(compare=[_is_new(key)], success=[epoch, put, ahead], failure=[epoch, mine])
        answer = await _of_lease(self._members.ask(lambda member: member.transact(request)))
        epochs = answer.responses[0].response_range.kvs
        base = int(epochs[0].value) if epochs else await self._epoch()
        if answer.succeeded:
            return list(answer.responses[2].response_range.kvs), base, answer.header.revision
        # A try whose answer got lost has queued already, and others may have since.
        [place] = answer.responses[1].response_range.kvs
        places, now = await self._look(queue, place.create_revision)
        return places, base, now

    async def _look(self, queue: bytes, revision: int) -> tuple[list[Any], int]:
        """The newest place up to `revision` and the one before it, and the revision at which this is so."""
        request = _newest_two(queue, revision)
        answer = await _of_lease(self._members.ask(lambda member: member.range(request)))
        return list(answer.kvs), answer.header.revision

    async def _wait(self, key: bytes, revision: int, lease: Lease) -> None:
        """Wait until `key` is gone or there is reason to look again. Raises _Gone when our lease is."""
        watch = asyncio.ensure_future(deleted(self._members, key, revision))
        over = asyncio.ensure_future(lease.gone.wait())
        try:
            await asyncio.wait({watch, over}, return_when=asyncio.FIRST_COMPLETED)
            if over.done():
                raise _Gone
            watch.result()
        finally:
            watch.cancel()
            over.cancel()
            await asyncio.gather(watch, over, return_exceptions=True)

    async def _epoch(self) -> int:
        """When this etcd was first used for locks, in microseconds: more than it has had revisions since."""
        read = rpc.RequestOp(request_range=rpc.RangeRequest(key=self._epoch_key))
        now = str(time.time_ns() // 1_000)
        put = rpc.RequestOp(request_put=rpc.PutRequest(key=self._epoch_key, value=now.encode()))
        request = rpc.TxnRequest(compare=[_is_new(self._epoch_key)], success=[put, read], failure=[read])
        answer = await _of_lease(self._members.ask(lambda member: member.transact(request)))
        return int(answer.responses[-1].response_range.kvs[0].value)

    async def _end(self, lease: Lease) -> None:
        """Revoke the lease; goes on beside when etcd is slow, or when the caller is cancelled."""
        lease.stop()
        task = asyncio.create_task(lease.revoke(), name="etcd lease end")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        await asyncio.wait({task}, timeout=self._settings.try_s)


async def _of_lease(answer: Awaitable[Result]) -> Result:
    """What was asked with a lease. Raises _Gone when etcd knows it no more."""
    try:
        return await answer
    except grpc.aio.AioRpcError as error:
        raise _Gone from error


def _newest_two(queue: bytes, revision: int = 0) -> Any:
    """The newest place in a queue, or the newest up to `revision`, and the one before it."""
    return rpc.RangeRequest(
        key=queue,
        range_end=queue[:-1] + bytes([queue[-1] + 1]),
        max_create_revision=revision,
        sort_target=rpc.RangeRequest.CREATE,
        sort_order=rpc.RangeRequest.DESCEND,
        limit=2,
    )


def _is_new(key: bytes) -> Any:
    return rpc.Compare(key=key, target=rpc.Compare.CREATE, result=rpc.Compare.EQUAL, create_revision=0)


def _kind(name: str) -> str:
    return name.partition("/")[0]

"""What every lock service must do, whatever the engine."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from muster.locks.protocol import LockService
from tests.commands import HANG_S, started
from tests.conformance.locks.conftest import LEASE_S, Backend


async def hold_until(locks: LockService, name: str, release: asyncio.Event, held: asyncio.Event | None = None) -> int:
    async with locks.hold(name) as grant:
        if held is not None:
            held.set()
        await release.wait()
        return grant.token


async def held(locks: LockService, name: str) -> tuple["asyncio.Task[int]", asyncio.Event]:
    """A task that holds the lock, and the event at which it releases."""
    release, there = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(hold_until(locks, name, release, there))
    await asyncio.wait_for(there.wait(), HANG_S)
    return task, release


async def test_one_holder_at_a_time_and_tokens_grow(backend: Backend, name: str) -> None:
    services = [await backend.locks() for _ in range(2)]
    inside = 0
    tokens: list[int] = []

    async def work(locks: LockService) -> None:
        nonlocal inside
        for _ in range(3):
            async with locks.hold(name) as grant:
                inside += 1
                tokens.append(grant.token)
                await asyncio.sleep(0.01)
                assert inside == 1
                assert not grant.lost.is_set()
                inside -= 1

    async with asyncio.timeout(HANG_S):
        await asyncio.gather(*(work(locks) for locks in services for _ in range(2)))
    assert len(tokens) == 12
    assert tokens == sorted(set(tokens))


async def test_who_asks_first_in_a_process_is_served_first(backend: Backend, name: str) -> None:
    """Where the machine is so busy that requests overtake each other, or a lease runs out, the next try shows it."""
    locks = await backend.locks()
    orders = [await order_of_service(locks, f"{name}/0", 0.05)]
    while orders[-1] != [0, 1, 2, 3, 4] and len(orders) < 4:
        orders.append(await order_of_service(locks, f"{name}/{len(orders)}", 0.3 * len(orders)))
    assert orders[-1] == [0, 1, 2, 3, 4], orders


async def order_of_service(locks: LockService, name: str, pause_s: float) -> list[int]:
    """In which order five who ask one after the other get the lock."""
    task, release = await held(locks, name)
    order: list[int] = []

    async def wait(index: int) -> None:
        async with locks.hold(name):
            order.append(index)

    waiters = []
    for index in range(5):
        waiters.append(asyncio.create_task(wait(index)))
        await asyncio.sleep(pause_s)
    release.set()
    await asyncio.wait_for(asyncio.gather(task, *waiters), HANG_S)
    return order


async def test_another_name_is_not_waited_for(backend: Backend, name: str) -> None:
    """Not even behind more waiters than a service has threads: nobody can keep a holder from releasing."""
    mine, other = await backend.locks(), await backend.locks()
    names = [f"{name}-{index}" for index in range(40)]
    pairs = await asyncio.gather(*(held(mine, one) for one in names))
    waiters = [asyncio.create_task(hold_until(other, one, pairs[0][1])) for one in names]
    await asyncio.sleep(0.3)
    pairs_of_others = [await held(mine, f"{name}-free")]
    for _, release in pairs + pairs_of_others:
        release.set()
    await asyncio.wait_for(asyncio.gather(*(task for task, _ in pairs + pairs_of_others), *waiters), HANG_S)


async def test_several_are_held_at_once_in_whatever_order_they_are_named(backend: Backend, name: str) -> None:
    names = [f"{name}-{letter}" for letter in "abc"]
    services = [await backend.locks() for _ in range(2)]
    inside: set[str] = set()

    async def work(locks: LockService, wanted: list[str]) -> None:
        for _ in range(2):
            async with locks.hold_all(wanted) as grants:
                assert grants.keys() == set(wanted)
                assert not inside & set(wanted)
                inside.update(wanted)
                await asyncio.sleep(0.01)
                inside.difference_update(wanted)

    async with asyncio.timeout(HANG_S):
        await asyncio.gather(
            work(services[0], names), work(services[1], names[::-1]), work(services[1], [names[1], names[1]])
        )
        async with services[0].hold_all([]) as none:
            assert none == {}


async def test_a_waiter_that_is_cancelled_leaves_nothing(backend: Backend, name: str) -> None:
    mine, other = await backend.locks(), await backend.locks()
    task, release = await held(mine, name)
    waiter = asyncio.create_task(hold_until(other, name, release))
    await asyncio.sleep(0.3)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    assert waiter.cancelled()
    release.set()
    first = await asyncio.wait_for(task, HANG_S)
    again, release = await held(other, name)
    release.set()
    assert await asyncio.wait_for(again, HANG_S) > first


@pytest.mark.parametrize("how", ["cancelled", "error"])
async def test_a_holder_that_fails_releases(backend: Backend, name: str, how: str) -> None:
    mine, other = await backend.locks(), await backend.locks()

    there = asyncio.Event()

    async def fail() -> None:
        async with mine.hold(name):
            there.set()
            if how == "error":
                raise ValueError
            await asyncio.Event().wait()

    task = asyncio.create_task(fail())
    await asyncio.wait_for(there.wait(), HANG_S)
    if how == "cancelled":
        task.cancel()
    [outcome] = await asyncio.gather(task, return_exceptions=True)
    assert isinstance(outcome, ValueError if how == "error" else asyncio.CancelledError)
    async with asyncio.timeout(HANG_S), other.hold(name):
        pass


async def test_cancelled_at_any_moment_leaves_the_lock_free(backend: Backend, name: str) -> None:
    """While asking, while being given the lock, while holding, while releasing."""
    mine, other = await backend.locks(), await backend.locks()
    release = asyncio.Event()
    for step in range(12):
        task = asyncio.create_task(hold_until(mine, name, release))
        await asyncio.sleep(step * 0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with asyncio.timeout(HANG_S), other.hold(name), mine.hold(f"{name}-other"):
        pass


async def test_a_lock_is_kept_beyond_its_lease(backend: Backend, name: str) -> None:
    lease_s = 4 * LEASE_S  # renewed in time on a busy machine too
    mine, other = await backend.locks(lease_s), await backend.locks(lease_s)
    task, release = await held(mine, name)
    waiter = asyncio.create_task(held(other, name))
    await asyncio.sleep(1.3 * lease_s if backend.has_leases else 0.5)
    assert not waiter.done()
    release.set()
    first = await asyncio.wait_for(task, HANG_S)
    holder, second_release = await asyncio.wait_for(waiter, HANG_S)
    second_release.set()
    assert await holder > first


_HOLDER = """
import asyncio, sys
from pathlib import Path
from muster.locks.open import open_locks

async def main():
    locks = await open_locks(sys.argv[1], "holder", Path(sys.argv[2]))
    async with locks.hold(sys.argv[3]) as grant:
        print(grant.token, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


async def test_the_lock_of_a_process_that_is_killed_comes_free(backend: Backend, name: str) -> None:
    """After its lease; on a busy machine before its death, if it could not renew that in time."""
    locks = await backend.locks()
    words = (sys.executable, "-c", _HOLDER, backend.url_for(LEASE_S), str(backend.tokens), name)
    async with started(*words, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        first = int(await asyncio.wait_for(process.stdout.readline(), HANG_S))
        waiter = asyncio.create_task(held(locks, name))
        await asyncio.sleep(0.5)  # it waits
        process.send_signal(signal.SIGKILL)
        task, release = await asyncio.wait_for(waiter, HANG_S)
        release.set()
        assert await task > first

import asyncio

import pytest

from muster.base.admission import Admission
from muster.base.errors import Bug, Transient


async def _turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_first_come_first_served_within_the_limit() -> None:
    admission, order = Admission(2), []

    async def work(name: int) -> None:
        async with admission.slot():
            order.append(name)
            assert admission.in_use <= 2
            await asyncio.sleep(0)

    await asyncio.gather(*(work(number) for number in range(20)))
    assert order == list(range(20))
    assert (admission.in_use, admission.waiting) == (0, 0)


async def test_nobody_overtakes_who_waits() -> None:
    admission = Admission(1)
    assert admission.try_acquire()
    waiter = asyncio.create_task(admission.acquire())
    await _turns()
    assert not admission.try_acquire()
    admission.release()
    assert not admission.try_acquire()  # the slot is the waiter's, though it has not run yet
    await waiter
    assert (admission.in_use, admission.waiting) == (1, 0)


@pytest.mark.parametrize("granted_first", [False, True])
async def test_a_cancelled_waiter_loses_no_slot(granted_first: bool) -> None:
    admission = Admission(1)
    await admission.acquire()
    waiter, next_one = asyncio.create_task(admission.acquire()), asyncio.create_task(admission.acquire())
    await _turns()
    if granted_first:
        admission.release()
    waiter.cancel()
    if not granted_first:
        await _turns()
        assert admission.waiting == 1
        admission.release()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await next_one
    assert (admission.in_use, admission.waiting) == (1, 0)


async def test_a_raised_limit_admits_and_a_lowered_one_drains() -> None:
    admission = Admission(1)
    await admission.acquire()
    waiters = [asyncio.create_task(admission.acquire()) for _ in range(3)]
    await _turns()
    admission.resize(3)
    await _turns()
    assert (admission.in_use, admission.waiting) == (3, 1)
    admission.resize(1)
    admission.release()
    admission.release()
    await _turns()
    assert (admission.in_use, admission.waiting) == (1, 1)
    admission.release()
    await asyncio.gather(*waiters)
    assert admission.in_use == 1


async def test_the_queue_is_bounded() -> None:
    admission = Admission(1, max_waiting=1)
    await admission.acquire()
    waiter = asyncio.create_task(admission.acquire())
    await _turns()
    with pytest.raises(Transient):
        await admission.acquire()
    admission.release()
    await waiter


async def test_misuse_is_a_bug() -> None:
    with pytest.raises(Bug):
        Admission(0)
    admission = Admission(1)
    with pytest.raises(Bug):
        admission.resize(0)
    with pytest.raises(Bug):
        admission.release()

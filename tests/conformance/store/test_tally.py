"""What a transaction takes of quotas is counted last, and never beyond the limit."""

import asyncio

import pytest

from muster.base.errors import Stale
from muster.domain.quotas import Ask, Refusal, Share
from muster.services.quotas import Quotas
from muster.services.redecide import redeciding
from muster.services.tally import Tally
from muster.store import usages
from muster.store.engine import Database

QUOTAS = Quotas({"port": 10})
PATIENCE_S = 300.0


async def _in_use(database: Database) -> int:
    async with database.read() as connection:
        return (await usages.read(connection, ["p"])).get(("p", "port"), 0)


async def test_counts_what_was_taken_less_what_was_given_back(database):
    async with database.write() as connection:
        tally = Tally(QUOTAS, connection)
        assert await tally.admit([Ask("p", {"port": 7}), Ask("p", {"port": 4})]) == [None, Refusal("port", 4, 7, 10)]
        tally.give_back([Ask("p", {"port": 2})])
        assert await tally.admit_shares([Share("p", {"port": 2}, most=9, least=1)]) == [2]
        await tally.settle()
    assert await _in_use(database) == 9


async def test_who_takes_nothing_more_is_not_refused_however_low_the_limit_is_now(database):
    async with database.write() as connection:
        await usages.add(connection, {("p", "port"): 50})
    async with database.write() as connection:
        tally = Tally(QUOTAS, connection)
        tally.give_back([Ask("p", {"port": 1})])
        await tally.settle()
    assert await _in_use(database) == 49


async def test_nobody_waits_before_the_end_and_two_do_not_both_get_the_last(database):
    if database.is_sqlite:
        return  # has one writer: the second sees what the first has taken

    async def overtaken() -> None:
        async with database.write() as slow:
            behind = Tally(QUOTAS, slow)
            assert await behind.admit([Ask("p", {"port": 6})]) == [None]
            async with database.write() as fast:
                ahead = Tally(QUOTAS, fast)
                assert await ahead.admit([Ask("p", {"port": 6})]) == [None]
                await ahead.settle()
            await behind.settle()

    with pytest.raises(Stale):
        await asyncio.wait_for(overtaken(), PATIENCE_S)
    assert await _in_use(database) == 6


async def test_many_at_once_take_exactly_what_there_is(database):
    async def take() -> bool:
        async def decide() -> bool:
            async with database.write() as connection:
                tally = Tally(QUOTAS, connection)
                [refusal] = await tally.admit([Ask("p", {"port": 3})])
                await asyncio.sleep(0)
                await tally.settle()
            return refusal is None

        return await redeciding("test", decide)

    async with asyncio.timeout(PATIENCE_S):
        outcomes = await asyncio.gather(*(take() for _ in range(8)))
    assert (sum(outcomes), await _in_use(database)) == (3, 9)

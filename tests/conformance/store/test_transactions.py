"""Transactions that block each other: one goes on, the other is to be decided again, and nothing is half done."""

import asyncio

from muster.base.errors import Stale
from muster.store import usages


async def test_of_two_that_wait_for_each_other_one_is_stale(database):
    async with database.write() as connection:
        await usages.add(connection, {("p", "a"): 1, ("p", "b"): 1})
    both_began = asyncio.Barrier(2)

    async def change(first: str, second: str) -> str:
        try:
            async with database.write() as connection:
                await usages.add(connection, {("p", first): 1})
                if not database.is_sqlite:  # SQLite has one writer, so the two go one after the other
                    await both_began.wait()
                await usages.add(connection, {("p", second): 1})
        except Stale:
            return "stale"
        return "done"

    outcomes = sorted(await asyncio.gather(change("a", "b"), change("b", "a")))
    assert outcomes == (["done", "done"] if database.is_sqlite else ["done", "stale"])
    async with database.read() as connection:
        assert set((await usages.read(connection, ["p"])).values()) == {1 + outcomes.count("done")}


async def test_one_picture_stays_what_it_was(database):
    """What hosts are told is put together of several queries: a list and its number must be of one moment."""
    async with database.write() as connection:
        await usages.add(connection, {("p", "a"): 1, ("p", "b"): 1})
    async with database.read(one_picture=True) as reading:
        before = await usages.read(reading, ["p"])
        async with database.write() as connection:
            await usages.add(connection, {("p", "a"): 5, ("p", "b"): 5})
        assert await usages.read(reading, ["p"]) == before
    # The next reader of the same connection is not kept in the past, nor is who writes.
    for _ in range(12):
        async with database.read() as reading:
            assert set((await usages.read(reading, ["p"])).values()) == {6}
    async with database.write() as connection:
        await usages.add(connection, {("p", "a"): 1})
        assert (await usages.read(connection, ["p"]))["p", "a"] == 7

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

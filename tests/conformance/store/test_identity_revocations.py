"""Revocations: numbers that only grow, visible in their own order, on every database."""

import asyncio

from muster.store import revocations as store
from muster.store.engine import Database

NOW = 1_700_000_000.0
KEEP = NOW + 3_900


async def record(database: Database, *subjects: str, now: float = NOW, until: float = KEEP) -> int:
    async with database.write() as connection:
        return (await store.record(connection, subjects, now, until))[0].seq


async def read_clock(database: Database) -> int:
    async with database.read() as connection:
        return await store.read_clock(connection)


async def test_before_the_first_one_the_clock_is_at_0(database: Database) -> None:
    assert await read_clock(database) == 0
    async with database.write() as connection:
        await store.start_clock(connection)
        await store.start_clock(connection)
    assert await read_clock(database) == 0


async def test_numbers_grow_though_the_time_stands_still_or_goes_back(database: Database) -> None:
    seqs = [await record(database, "user/a", now=now) for now in (NOW, NOW, NOW - 50, NOW + 1, NOW)]

    assert seqs == sorted(set(seqs))
    assert seqs[0] == int(NOW * 1_000_000)
    assert seqs[3] == int((NOW + 1) * 1_000_000)
    assert await read_clock(database) == seqs[-1]


async def test_nothing_to_revoke_takes_no_number(database: Database) -> None:
    async with database.write() as connection:
        assert await store.record(connection, [], NOW, KEEP) == []
    assert await read_clock(database) == 0


async def test_subjects_of_one_transaction_share_a_number(database: Database) -> None:
    async with database.write() as connection:
        made = await store.record(connection, ["user/b", "user/a", "user/b"], NOW, KEEP)

    assert [(one.subject, one.seq) for one in made] == [("user/a", made[0].seq), ("user/b", made[0].seq)]
    async with database.read() as connection:
        assert await store.read_since(connection, 0, NOW) == made
        assert await store.read_since(connection, made[0].seq, NOW) == []
        assert await store.is_revoked(connection, ["user/a", "user/x"], made[0].seq - 1)
        assert not await store.is_revoked(connection, ["user/a"], made[0].seq)
        assert not await store.is_revoked(connection, ["user/x"], 0)


async def test_whoever_sees_a_number_sees_all_below_it(database: Database) -> None:
    """A first transaction lingers between its number and its commit; a second one must not overtake it."""
    await record(database, "user/0")
    numbered = asyncio.Event()
    ended: list[str] = []

    async def lingering() -> None:
        async with database.write() as connection:
            await store.record(connection, ["user/first"], NOW, KEEP)
            numbered.set()
            await asyncio.sleep(0.3)
            ended.append("first")

    async def hasty() -> None:
        await numbered.wait()
        await record(database, "user/second")
        ended.append("second")
        async with database.read() as connection:
            seen = [one.subject for one in await store.read_since(connection, 0, NOW)]
        assert seen == ["user/0", "user/first", "user/second"]

    await asyncio.gather(lingering(), hasty())
    assert ended == ["first", "second"]


async def test_many_at_once_get_numbers_of_their_own(database: Database) -> None:
    seqs = await asyncio.gather(*(record(database, f"user/{number}") for number in range(30)))
    assert len(set(seqs)) == 30


async def test_pruning(database: Database) -> None:
    await record(database, "user/old", until=NOW + 10)
    kept = await record(database, "user/new", until=NOW + 20)

    async with database.write() as connection:
        assert not await store.has_expired_ones(connection, NOW + 9)
        assert await store.has_expired_ones(connection, NOW + 10)
        await store.prune(connection, NOW + 10)
        assert not await store.has_expired_ones(connection, NOW + 10)
    async with database.read() as connection:
        assert [one.seq for one in await store.read_since(connection, 0, NOW)] == [kept]
        assert await store.read_since(connection, 0, NOW + 20) == []
    assert await read_clock(database) == kept

"""The keys of tokens, which all workers of a cluster share: rotation, several workers at once, the wrong secret."""

import asyncio

import pytest
from cryptography.fernet import InvalidToken
from sqlalchemy import select

from muster.base.errors import Bug, Invalid
from muster.services.cluster_secret import ClusterSecret
from muster.services.token_keys import KNOWN_AFTER_S, ROTATE_AFTER_S, KeyRing, TokenKeys
from muster.store.engine import Database
from muster.store.token_keys import read, token_keys

SECRET = ClusterSecret("a secret of at least 32 characters")


class Workers:
    """Workers of one cluster, with a clock to turn."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.now = 1_000_000.0

    async def start(self, secret: ClusterSecret = SECRET) -> TokenKeys:
        keys = TokenKeys(self.database, secret, lambda: self.now, max_active_keys=3)
        await keys.prepare()
        return keys

    async def rotate(self, keys: TokenKeys) -> None:
        self.now += ROTATE_AFTER_S + 1
        assert await keys.rotate()

    async def numbers(self) -> list[int]:
        async with self.database.read() as connection:
            return sorted(await read(connection))


@pytest.fixture
def workers(database: Database) -> Workers:
    return Workers(database)


async def test_workers_open_what_others_seal(workers: Workers) -> None:
    one, other = await workers.start(), await workers.start()
    assert other.ring.open(one.ring.seal(b"x")) == b"x"
    assert one.ring.open(other.ring.seal(b"y")) == b"y"
    assert await workers.numbers() == [0, 1]


async def test_many_first_starts_at_once_agree(workers: Workers) -> None:
    started = await asyncio.gather(*(workers.start() for _ in range(8)))
    sealed = [keys.ring.seal(b"x") for keys in started]
    assert {keys.ring.open(one) for keys in started for one in sealed} == {b"x"}


async def test_a_token_lives_through_as_many_rotations_as_there_are_keys(workers: Workers) -> None:
    keys = await workers.start()
    sealed = keys.ring.seal(b"x")
    await workers.rotate(keys)
    assert await workers.numbers() == [0, 1, 2]
    assert keys.ring.open(sealed) == b"x"
    await workers.rotate(keys)
    assert await workers.numbers() == [0, 2, 3]
    with pytest.raises(InvalidToken):
        keys.ring.open(sealed)


async def test_whoever_has_not_heard_of_a_rotation_opens_new_tokens(workers: Workers) -> None:
    one, deaf = await workers.start(), await workers.start()
    generation = deaf.ring.generation
    await workers.rotate(one)
    assert deaf.ring.open(one.ring.seal(b"x")) == b"x"
    assert deaf.ring.generation == generation
    await deaf.refresh()
    assert deaf.ring.generation == generation + 1
    await workers.rotate(one)
    assert deaf.ring.open(one.ring.seal(b"x")) == b"x"


async def test_a_refresh_without_news_changes_nothing(workers: Workers) -> None:
    keys = await workers.start()
    await keys.refresh()
    assert keys.ring.generation == 1


async def test_a_key_is_staged_long_enough_to_be_known(workers: Workers) -> None:
    keys = await workers.start()
    workers.now += KNOWN_AFTER_S - 1
    assert not await keys.rotate(after_s=0)
    assert await workers.numbers() == [0, 1]
    workers.now += 2
    assert not await keys.rotate()  # a day has not passed
    assert await keys.rotate(after_s=0)
    assert await workers.numbers() == [0, 1, 2]


async def test_two_that_rotate_at_once_rotate_once(workers: Workers) -> None:
    one, other = await workers.start(), await workers.start()
    workers.now += ROTATE_AFTER_S + 1
    assert sorted(await asyncio.gather(one.rotate(), other.rotate())) == [False, True]
    assert await workers.numbers() == [0, 1, 2]
    await asyncio.gather(one.refresh(), other.refresh())
    assert other.ring.open(one.ring.seal(b"x")) == b"x"


async def test_another_secret_is_refused(workers: Workers) -> None:
    await workers.start()
    with pytest.raises(Invalid, match="same secret"):
        await workers.start(ClusterSecret("another secret of 32 characters!"))


OLD, NEW = "the old secret of 32 characters....", "the new secret of 32 characters...."


async def test_the_secret_is_replaced_while_workers_of_both_kinds_serve(workers: Workers) -> None:
    old = await workers.start(ClusterSecret(OLD))
    early = old.ring.seal(b"early")
    assert not await old.reseal()

    # The first new worker; an old one still seals, stages keys, and starts anew.
    both = await workers.start(ClusterSecret(NEW, [OLD]))
    assert both.ring.open(early) == b"early"
    await workers.rotate(old)
    await both.refresh()
    assert await both.reseal()
    assert not await both.reseal()
    generation = both.ring.generation
    for keys in (both, old, await workers.start(ClusterSecret(OLD))):
        await keys.refresh()
        assert keys.ring.open(both.ring.seal(b"x")) == keys.ring.open(old.ring.seal(b"x")) == b"x"
        assert keys.ring.open(early) == b"early"
    assert both.ring.generation == generation, "keys are as they were, and what is held of tokens is good"
    assert await old.reseal(), "an old one that works for the cluster: seals for the new secret go"
    with pytest.raises(Invalid, match="same secret"):
        await workers.start(ClusterSecret(NEW))
    assert await both.reseal()
    await workers.rotate(both)
    await old.refresh()
    assert old.ring.open(both.ring.seal(b"x")) == b"x"
    late = old.ring.seal(b"late")

    # None has the old secret alone any more.
    new = await workers.start(ClusterSecret(NEW))
    assert new.ring.open(late) == b"late"
    assert await new.reseal()
    await both.refresh()
    assert both.ring.open(new.ring.seal(b"x")) == b"x"
    with pytest.raises(Invalid, match="same secret"):
        await workers.start(ClusterSecret(OLD))


async def test_two_that_seal_anew_at_once_lose_no_key(workers: Workers) -> None:
    sealed = (await workers.start(ClusterSecret(OLD))).ring.seal(b"x")
    several = await asyncio.gather(*(workers.start(ClusterSecret(NEW, [OLD])) for _ in range(4)))
    await asyncio.gather(*(keys.reseal() for keys in several))
    assert (await workers.start(ClusterSecret(NEW))).ring.open(sealed) == b"x"
    assert await workers.numbers() == [0, 1]


async def test_the_database_alone_opens_nothing(workers: Workers) -> None:
    keys = await workers.start()
    ring = KeyRing()
    async with workers.database.read() as connection:
        kept = [row.sealed for row in await connection.execute(select(token_keys))]
    with pytest.raises(ValueError, match="Fernet key"):
        ring.hold([one.encode() for one in kept])
    with pytest.raises(Bug):
        ring.open(keys.ring.seal(b"x"))


def test_derived_keys_differ_by_purpose_and_show_no_secret() -> None:
    assert SECRET.key("one") != SECRET.key("other")
    assert SECRET.key("one") == ClusterSecret("a secret of at least 32 characters").key("one")
    assert "secret of" not in repr(SECRET)
    for secret, previous in (("short", ()), (OLD, ["short"])):
        with pytest.raises(Invalid):
            ClusterSecret(secret, previous)

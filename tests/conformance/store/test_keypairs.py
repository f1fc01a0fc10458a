"""Statements on keypairs."""

import pytest

from muster.domain.keypairs import Keypair
from muster.store import keypairs as store
from muster.store.engine import Violation


def key(user_id: str, name: str) -> Keypair:
    return Keypair(user_id=user_id, name=name, type="ssh", public_key="ssh-ed25519 A", fingerprint="a:b", created_at=1)


async def test_keypairs_are_written_found_by_many_names_paged_and_deleted(database):
    made = [key("u", "b"), key("u", "a"), key("u", "c"), key("v", "a")]
    async with database.write() as connection:
        await store.insert_all(connection, made)
        found = await store.read_named(connection, {("u", "a"), ("v", "a"), ("v", "b")})
        assert found == {("u", "a"): made[1], ("v", "a"): made[3]}
        assert await store.read_named(connection, set()) == {}
        assert [one.name for one in await store.read_page(connection, "u")] == ["a", "b", "c"]
        assert [one.name for one in await store.read_page(connection, "u", limit=1, after="a")] == ["b"]
        assert await store.remove(connection, "u", "b")
        assert not await store.remove(connection, "u", "b")
        assert [one.name for one in await store.read_page(connection, "u")] == ["a", "c"]


async def test_a_name_is_taken_once_per_user(database):
    async with database.write() as connection:
        await store.insert_all(connection, [key("u", "a")])
    with pytest.raises(Violation) as caught:
        async with database.write() as connection:
            await store.insert_all(connection, [key("u", "a")])
    assert caught.value.constraint == "pk_keypairs"

"""Statements on flavors."""

import asyncio

import pytest
from msgspec.structs import replace

from muster.domain.flavors import DEFAULT_FLAVORS, Flavor
from muster.store import flavors as store
from muster.store.engine import Violation
from muster.store.violations import FOREIGN_KEY

FLAVOR = Flavor(
    id="f", name="f", vcpus=1, ram_mib=1, is_public=False, extra_specs={"a": "1"}, description="d", rxtx_factor=1.5
)


async def test_flavors_are_written_read_changed_and_deleted(database):
    async with database.write() as connection:
        await store.ensure(connection, DEFAULT_FLAVORS)
        await store.ensure(connection, [FLAVOR, replace(FLAVOR, id="1"), replace(FLAVOR, id="g", name="m1.tiny")])
        assert set((await store.read_all(connection)).flavors) == {*"12345", "guest.tiny", "f"}
        assert await store.read_locked(connection, "f") == FLAVOR
        assert await store.read_locked(connection, "none") is None
        changed = replace(FLAVOR, description=None, extra_specs={"b": "2"}, updated_at=5.0)
        await store.write(connection, changed)
        assert (await store.read_all(connection)).flavors["f"] == changed
        await store.add_access(connection, "f", "p")
        await store.add_access(connection, "f", "q")
        assert (await store.read_all(connection)).access == {"f": {"p", "q"}}
        assert await store.remove_access(connection, "f", "p")
        assert not await store.remove_access(connection, "f", "p")
        assert await store.remove(connection, "f")
        assert not await store.remove(connection, "f")
        assert (await store.read_all(connection)).access == {}


async def test_what_is_taken_or_gone_is_a_violation_that_says_which(database):
    async with database.write() as connection:
        await store.insert_flavor(connection, FLAVOR)
        await store.add_access(connection, "f", "p")
    for write, constraint in (
        (lambda c: store.insert_flavor(c, replace(FLAVOR, id="g")), store.NAME_TAKEN),
        (lambda c: store.insert_flavor(c, replace(FLAVOR, name="g")), "pk_flavors"),
        (lambda c: store.add_access(c, "f", "p"), "pk_flavor_access"),
        (lambda c: store.add_access(c, "none", "p"), FOREIGN_KEY),
    ):
        with pytest.raises(Violation) as caught:
            async with database.write() as connection:
                await write(connection)
        assert caught.value.constraint == constraint


async def test_concurrent_changes_of_one_flavor_go_one_after_the_other(database):
    async with database.write() as connection:
        await store.insert_flavor(connection, replace(FLAVOR, extra_specs={}))

    async def add(key: str) -> None:
        async with database.write() as connection:
            flavor = await store.read_locked(connection, "f")
            await asyncio.sleep(0.01)
            await store.write(connection, replace(flavor, extra_specs={**flavor.extra_specs, key: "1"}))

    await asyncio.gather(*(add(key) for key in "abcdef"))
    async with database.read() as connection:
        assert set((await store.read_all(connection)).flavors["f"].extra_specs) == set("abcdef")

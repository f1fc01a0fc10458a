"""Addresses on lease: no lock while they last, and nobody goes short because another has some idle."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import select

from muster.base.errors import Exhausted, MusterError
from muster.base.ids import new_uuid
from muster.domain.network_listing import ListQuery
from muster.domain.ports import NewPort, WantedIp
from muster.domain.subnets import Pool, SubnetChanges
from muster.locks.protocol import Grant
from muster.services.port_batch import PortBatch
from muster.store import addresses as store
from muster.store import port_batch as rows
from tests.conformance.cluster.worker import decided_again
from tests.conformance.locks.lying import LyingLocks

from .conftest import Bed
from .workers import ADMIN

LEASE_S = 30.0
SIZE = 40
PATIENCE_S = 300.0


class CountedLocks(LyingLocks):
    """Gives every lock at once, and counts."""

    taken = 0

    @asynccontextmanager
    async def hold_all(self, names: Sequence[str]) -> AsyncIterator[dict[str, Grant]]:
        self.taken += bool(names)
        async with super().hold_all(names) as grants:
            for grant in grants.values():
                grant.contended = True
            yield grants


class Leasing(Bed):
    """A pool of forty, and two workers."""

    async def prepare(self) -> None:
        await super().prepare()
        changes = SubnetChanges(allocation_pools=(Pool("10.0.0.10", f"10.0.0.{9 + SIZE}"),))
        await self.services.subnets.update(ADMIN, self.subnet_id, changes)
        self.other = self.worker(self.locks, LEASE_S, seed=2)
        self.locks.taken = 0

    locks: CountedLocks
    locks_of_a_short_batch = 1


@pytest.fixture(params=["the rows held", "under the lock", "leased first"])
async def bed(database, request, monkeypatch) -> Leasing:
    """What is short is decided with the subnet's row held, as for ports; or as for servers: under the lock, or, of more
    than a few, leased first by itself."""
    by_rows = request.param == "the rows held"
    if not by_rows:
        monkeypatch.setattr("muster.services.leases.LARGE", 64 if request.param == "under the lock" else 0)
        creation = PortBatch.creation
        as_servers_do = lambda *given, nothing_else: creation(*given)  # noqa: E731, PLW0108 - without the keyword
        monkeypatch.setattr(PortBatch, "creation", as_servers_do)
    locks = CountedLocks()
    made = Leasing(database, locks, LEASE_S)
    made.locks = locks
    made.locks_of_a_short_batch = 0 if by_rows else 1
    await made.prepare()
    return made


async def _make(bed: Leasing, services, count: int = 1, address: str | None = None) -> list[str]:
    """Addresses of ports made in one batch."""
    wanted = (WantedIp(ip_address=address),) if address else None
    drafts = [NewPort(id=new_uuid(), project_id="adm", network_id=bed.network_id, fixed_ips=wanted)]
    drafts += [NewPort(id=new_uuid(), project_id="adm", network_id=bed.network_id) for _ in range(count - 1)]
    async with asyncio.timeout(PATIENCE_S):
        made = await asyncio.gather(*(services.ports.create(ADMIN, draft) for draft in drafts))
    return [port.fixed_ips[0].ip_address for port in made]


async def _resting(bed: Leasing) -> dict[str, float]:
    async with bed.database.read() as connection:
        table = store.addresses
        statement = select(table.c.ip_address, table.c.free_at).where(table.c.port_id.is_(None))
        return dict(map(tuple, (await connection.execute(statement)).all()))


def _texts(first: int, count: int) -> list[str]:
    return [f"10.0.0.{number}" for number in range(first, first + count)]


async def test_a_batch_leases_for_the_next_one_which_takes_no_lock(bed):
    assert await _make(bed, bed.services) == ["10.0.0.10"]
    assert await _resting(bed) == dict.fromkeys(_texts(11, 4), bed.now + LEASE_S)  # an eighth of what was left
    assert bed.locks.taken == bed.locks_of_a_short_batch
    assert await _make(bed, bed.services, 4) == _texts(11, 4)
    assert bed.locks.taken == bed.locks_of_a_short_batch


async def test_another_gets_none_of_them_while_others_are_free(bed):
    await _make(bed, bed.services)
    assert await _make(bed, bed.other) == ["10.0.0.15"]


async def test_what_a_worker_has_leased_and_not_used_is_the_next_when_the_lease_is_over(bed):
    await _make(bed, bed.services)
    bed.now += LEASE_S
    assert sorted(await _make(bed, bed.other, 4)) == _texts(11, 4)


async def test_with_exactly_as_many_as_are_asked_for_all_get_one(bed):
    """Both lease more than they need before the end; what one has left the other takes."""
    for _ in range(4):
        await asyncio.gather(_make(bed, bed.services, 4), _make(bed, bed.other, 6))
    assert await _resting(bed) == {}
    with pytest.raises(Exhausted):
        await _make(bed, bed.other)


async def test_who_has_some_in_stock_and_needs_more_of_a_dry_subnet_gets_what_there_is(bed):
    """What it has in stock rests, as far as the store knows, and is next: it must not be leased a second time."""
    await _make(bed, bed.services)
    others = await _make(bed, bed.other, SIZE - 5)  # all but the four that the first has in stock
    for port in await bed.other.ports.page(ADMIN, ListQuery()):
        if port.fixed_ips[0].ip_address in others[:2]:
            await bed.other.ports.delete(ADMIN, port.id)
    assert sorted(await _make(bed, bed.services, 6)) == sorted([*_texts(11, 4), *others[:2]])
    with pytest.raises(Exhausted):
        await _make(bed, bed.services)


async def test_a_lease_that_was_taken_is_decided_again(bed):
    await _make(bed, bed.services)
    await _make(bed, bed.other, SIZE - 2)  # takes three of the four that lie idle
    assert len(await _make(bed, bed.services)) == 1
    with pytest.raises(Exhausted):
        await _make(bed, bed.services)


async def test_a_leased_address_can_be_had_by_name(bed):
    await _make(bed, bed.services)
    assert await _make(bed, bed.other, address="10.0.0.12") == ["10.0.0.12"]
    assert "10.0.0.12" not in await _make(bed, bed.services, 3)


async def test_pools_may_change_and_a_subnet_may_go_while_addresses_are_on_lease(bed):
    await _make(bed, bed.services)
    changes = SubnetChanges(allocation_pools=(Pool("10.0.0.13", "10.0.0.13"),))
    await bed.services.subnets.update(ADMIN, bed.subnet_id, changes)
    assert await _make(bed, bed.services) == ["10.0.0.13"]
    for port in await bed.services.ports.page(ADMIN, ListQuery()):
        await bed.services.ports.delete(ADMIN, port.id)
    await bed.services.subnets.delete(ADMIN, bed.subnet_id)
    [port] = await asyncio.gather(
        bed.services.ports.create(ADMIN, NewPort(id=new_uuid(), project_id="adm", network_id=bed.network_id))
    )
    assert port.fixed_ips == ()


async def test_a_lease_has_no_port_and_is_not_counted(bed):
    await _make(bed, bed.services)
    async with bed.database.read() as connection:
        assert await store.count_given(connection, [bed.subnet_id]) == {bed.subnet_id: 1}


async def test_what_a_failed_batch_had_on_lease_is_used_by_the_next(bed):
    await _make(bed, bed.services)
    wanted = [NewPort(id=new_uuid(), project_id="adm", network_id=bed.network_id) for _ in range(2)]
    with pytest.raises(MusterError):  # a group that is not there
        await bed.services.ports.create_many(ADMIN, [wanted[0], _with_group(wanted[1])])
    assert sorted(await _make(bed, bed.services, 4)) == _texts(11, 4)
    assert bed.locks.taken == bed.locks_of_a_short_batch


def _with_group(draft: NewPort) -> NewPort:
    return NewPort(id=draft.id, project_id=draft.project_id, network_id=draft.network_id, security_group_ids=("none",))


async def test_what_a_transaction_has_claimed_nobody_takes_however_dry_the_subnet(bed):
    if bed.database.is_sqlite:
        return  # has one writer: nobody comes in between
    await _make(bed, bed.services)
    async with asyncio.timeout(PATIENCE_S), bed.database.write() as claiming:
        assert len(await store.claim(claiming, bed.subnet_id, [0x0A00000B, 0x0A00000C])) == 2
        async with bed.database.write() as dry:
            assert await store.read_resting(dry, bed.subnet_id, limit=9) == [0x0A00000D, 0x0A00000E]


async def test_who_is_short_waits_for_the_subnets_row_and_sees_what_was_taken(bed):
    """What others have taken is seen, and nothing is decided again."""
    if bed.database.is_sqlite or bed.locks_of_a_short_batch:
        return
    before = decided_again()
    async with asyncio.timeout(PATIENCE_S):
        async with bed.database.write() as holding:
            await rows.hold_subnets(holding, [bed.subnet_id])
            waiting = [asyncio.create_task(_make(bed, services, 3)) for services in (bed.services, bed.other)]
            await asyncio.wait(waiting, timeout=0.3)
            assert not any(task.done() for task in waiting)
        made = await asyncio.gather(*waiting)
    assert len({*made[0], *made[1]}) == 6
    assert decided_again() == before


async def test_a_change_of_subnets_and_ports_that_are_short_wait_for_each_other_in_one_order(bed):
    """Both need the network's row and the subnet's: in different orders one would be thrown out, and decided again."""
    if bed.database.is_sqlite or bed.locks_of_a_short_batch:
        return
    before = decided_again()
    async with asyncio.timeout(PATIENCE_S):
        for turn in range(10):
            changes = SubnetChanges(name=f"turn {turn}")
            fresh = bed.worker(bed.locks, LEASE_S, seed=10 + turn)  # has no lease
            await asyncio.gather(_make(bed, fresh), bed.services.subnets.update(ADMIN, bed.subnet_id, changes))
    assert decided_again() == before

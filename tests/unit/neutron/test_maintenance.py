"""Making the driver's tables, and those of `internal`, agree with Neutron's: without Neutron, on SQLite."""

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, column, delete, insert, select, table
from tests.unit.neutron.conftest import SUBNET, Neutron

from muster.base.errors import NotFound
from muster.domain.addresses import to_number
from muster.neutron import maintenance, store
from muster.neutron.allocation import Ages, Ask, Mark, Terms, allocate
from muster.neutron.tables import State

HELD = Mark(State.HELD)
allocations = table("ipallocations", column("ip_address"))
internal = table("ipamallocations", column("ipam_subnet_id"), column("ip_address"), column("status"))
internal_subnets = table("ipamsubnets", column("id"), column("neutron_subnet_id"))


def terms(now: float = 1000.0) -> Terms:
    return Terms(fits=lambda cidr, address: True, now=now)


@pytest.fixture
def subnet(tables: Neutron) -> str:
    tables.has_subnet("10.0.0.0/24", "10.0.0.10", "10.0.0.19")
    tables.has_port("10.0.0.12", "p12")
    tables.has_port("10.0.0.99", "p99")
    return SUBNET


def agree(connection: Connection, now: float = 1000.0) -> None:
    maintenance.agree(connection, SUBNET, now, Ages(claim_s=60.0, promise_s=600.0))


def test_a_new_subnet_is_reported_and_taken_over(connection: Connection, subnet: str) -> None:
    before = maintenance.look(connection, subnet)
    assert (before.known, before.ports, before.missing) == (False, 2, ("10.0.0.12", "10.0.0.99"))
    agree(connection)
    after = maintenance.look(connection, subnet)
    assert not after.differs
    assert (after.held, after.free, after.claimed, after.resting) == (2, 9, 0, 0)


def test_what_differs_is_reported_and_set_right(connection: Connection, subnet: str, tables: Neutron) -> None:
    agree(connection)
    assert allocate(connection, subnet, [Ask(count=2)], HELD, terms()) == [("10.0.0.10", "10.0.0.11")]
    tables.has_port("10.0.0.10")
    tables.has_port("10.0.0.15")  # by another driver
    tables.has_pool("10.0.0.30", "10.0.0.31")
    report = maintenance.look(connection, subnet)
    assert (report.missing, report.orphaned, report.pools_differ) == (("10.0.0.15",), ("10.0.0.11",), True)
    agree(connection, 2000.0)
    after = maintenance.look(connection, subnet)
    assert not after.differs
    assert (after.held, after.resting, after.free) == (4, 1, 8)


def test_claims_of_the_dead_go_back_and_young_ones_stay(connection: Connection, subnet: str) -> None:
    agree(connection)
    allocate(connection, subnet, [Ask()], Mark(State.CLAIMED, "old"), terms(now=0.0))
    allocate(connection, subnet, [Ask()], Mark(State.CLAIMED, "new"), terms(now=990.0))
    agree(connection)
    after = maintenance.look(connection, subnet)
    assert (after.claimed, after.resting) == (1, 1)


def test_promises_are_no_difference_and_go_back_when_they_are_old(
    connection: Connection, subnet: str, tables: Neutron
) -> None:
    """A request for several ports that was under way was reported, and what it had set free."""
    agree(connection)
    allocate(connection, subnet, [Ask(count=2)], Mark(State.PROMISED), terms())
    report = maintenance.look(connection, subnet)
    assert (report.differs, report.held, report.claimed) == (False, 2, 2)
    tables.has_port("10.0.0.10", "p10")  # its request has come so far
    assert not maintenance.look(connection, subnet).differs
    agree(connection, 1500.0)
    assert store.read_states(connection, subnet)[to_number("10.0.0.11")] is State.PROMISED
    agree(connection, 1601.0)
    after = maintenance.look(connection, subnet)
    assert (after.differs, after.held, after.claimed, after.resting) == (False, 3, 0, 1)


def test_pools_that_change_while_the_subnets_row_is_waited_for(
    connection: Connection, subnet: str, tables: Neutron, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(connection)
    lock = store.lock_subnet

    def waited(connection: Connection, subnet_id: str) -> store.Subnet | None:
        monkeypatch.undo()
        tables.has_pool("10.0.0.30", "10.0.0.31")
        return lock(connection, subnet_id)

    monkeypatch.setattr(store, "lock_subnet", waited)
    agree(connection)
    assert not maintenance.look(connection, subnet).differs


def test_a_subnet_that_is_made_while_deleted_ones_are_looked_for(
    connection: Connection, subnet: str, tables: Neutron, monkeypatch: pytest.MonkeyPatch
) -> None:
    agree(connection)
    for name in ("known_subnets", "neutron_subnet_ids"):
        read = getattr(store, name)

        def then_one_is_made(connection: Connection, read: Callable[[Connection], object] = read) -> object:
            found = read(connection)
            monkeypatch.undo()
            tables.has_subnet("10.1.0.0/24", "10.1.0.10", "10.1.0.19", "made")
            maintenance.agree(connection, "made", 1000.0, Ages())
            return found

        monkeypatch.setattr(store, name, then_one_is_made)
    assert maintenance.forget_deleted(connection) == []
    assert {one.id for one in store.known_subnets(connection)} == {subnet, "made"}


def test_deleted_subnets_are_forgotten(connection: Connection, subnet: str) -> None:
    agree(connection)
    assert maintenance.forget_deleted(connection) == []
    connection.execute(delete(table("subnets", column("id"))))
    assert maintenance.forget_deleted(connection) == [subnet]
    assert store.known_subnets(connection) == []
    with pytest.raises(NotFound):
        maintenance.look(connection, subnet)


def test_the_way_back(connection: Connection, subnet: str) -> None:
    before = maintenance.look_at_internal(connection, subnet)
    assert (before.known, before.lacking) == (False, ("10.0.0.12", "10.0.0.99"))
    maintenance.fill_internal(connection, subnet)
    assert not maintenance.look_at_internal(connection, subnet).differs

    internal_id = connection.execute(select(internal_subnets.c.id)).scalar()
    connection.execute(insert(internal).values(ipam_subnet_id=internal_id, ip_address="10.0.0.17", status="ALLOCATED"))
    connection.execute(delete(internal).where(internal.c.ip_address == "10.0.0.12"))
    differs = maintenance.look_at_internal(connection, subnet)
    assert (differs.lacking, differs.stale, differs.pools_differ) == (("10.0.0.12",), ("10.0.0.17",), False)
    maintenance.fill_internal(connection, subnet)
    assert not maintenance.look_at_internal(connection, subnet).differs


def test_a_port_that_is_made_while_the_way_back_is_looked_for(
    connection: Connection, subnet: str, tables: Neutron, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of `internal` made it between two looks: its address was taken out of that driver's table again."""
    maintenance.fill_internal(connection, subnet)
    internal_id = connection.execute(select(internal_subnets.c.id)).scalar()
    read = store.neutron_allocations

    def then_one_is_made(connection: Connection, subnet_id: str) -> dict[int, str]:
        found = read(connection, subnet_id)
        monkeypatch.undo()
        tables.has_port("10.0.0.17", "p17")
        values = {"ipam_subnet_id": internal_id, "ip_address": "10.0.0.17", "status": "ALLOCATED"}
        connection.execute(insert(internal).values(**values))
        return found

    monkeypatch.setattr(store, "neutron_allocations", then_one_is_made)
    maintenance.fill_internal(connection, subnet)
    assert not maintenance.look_at_internal(connection, subnet).differs

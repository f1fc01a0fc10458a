"""What a batch gets, and what is written: without Neutron, on SQLite."""

from ipaddress import ip_address, ip_network

import pytest
from sqlalchemy import Connection, column, delete, event, select, table
from tests.unit.neutron.conftest import SUBNET, Neutron

from muster.base.errors import Conflict, Exhausted, Invalid, NotFound
from muster.domain.addresses import Range, to_number
from muster.neutron import store
from muster.neutron.allocation import (
    Ages,
    Ask,
    Mark,
    Terms,
    allocate,
    change_subnet,
    give_back,
    open_or_change_subnet,
    open_subnet,
    sweep,
)
from muster.neutron.store import Subnet
from muster.neutron.tables import State, addresses

CLAIM = Mark(State.CLAIMED, "c1")
ANY = Ask()
AGES = Ages(claim_s=60.0, promise_s=600.0)


def fits(cidr: str, address: str) -> bool:
    return ip_address(address) in ip_network(cidr)


def terms(now: float = 1000.0, rest_s: float = 0.0) -> Terms:
    return Terms(fits=fits, now=now, rest_s=rest_s, ages=AGES)


def subnet(first: str = "10.0.0.10", last: str = "10.0.0.19", cidr: str = "10.0.0.0/24") -> Subnet:
    return Subnet(SUBNET, cidr, (Range(to_number(first), to_number(last)),))


def named(address: str) -> Ask:
    return Ask(number=to_number(address))


def rows(connection: Connection) -> dict[str, State]:
    found = connection.execute(select(addresses.c.ip_address, addresses.c.state))
    return {row.ip_address: State(row.state) for row in found}


@pytest.fixture
def opened(connection: Connection, tables: Neutron) -> Subnet:
    made = subnet()
    tables.has_subnet(made.cidr, "10.0.0.10", "10.0.0.19")
    open_subnet(connection, made, {}, 0.0)
    return made


def test_a_batch_gets_distinct_addresses_the_lowest_first(connection: Connection, opened: Subnet) -> None:
    outcomes = allocate(connection, opened.id, [ANY, Ask(count=3), ANY], CLAIM, terms())
    assert outcomes == [("10.0.0.10",), ("10.0.0.11", "10.0.0.12", "10.0.0.13"), ("10.0.0.14",)]
    assert rows(connection) == {f"10.0.0.{last}": State.CLAIMED for last in range(10, 15)}
    assert store.all_ranges(connection, opened.id) == [Range(to_number("10.0.0.15"), to_number("10.0.0.19"))]


def test_who_asks_by_name_gets_it_whoever_else_is_in_the_batch(connection: Connection, opened: Subnet) -> None:
    outcomes = allocate(connection, opened.id, [ANY, named("10.0.0.10"), named("10.0.0.10")], CLAIM, terms())
    assert outcomes[:2] == [("10.0.0.11",), ("10.0.0.10",)]
    assert isinstance(outcomes[2], Conflict)


def test_who_takes_fewer_too_gets_what_the_others_leave(connection: Connection, opened: Subnet) -> None:
    outcomes = allocate(connection, opened.id, [Ask(count=20, or_fewer=True), ANY, ANY], CLAIM, terms())
    assert outcomes[1:] == [("10.0.0.10",), ("10.0.0.11",)]
    assert outcomes[0] == tuple(f"10.0.0.{last}" for last in range(12, 20))
    [none] = allocate(connection, opened.id, [Ask(count=20, or_fewer=True)], CLAIM, terms())
    assert isinstance(none, Exhausted)


def test_exactly_as_many_as_there_are_then_one_more(connection: Connection, opened: Subnet) -> None:
    outcomes = allocate(connection, opened.id, [ANY] * 11, CLAIM, terms())
    assert len({outcome for outcome in outcomes[:10] if isinstance(outcome, tuple)}) == 10
    assert isinstance(outcomes[10], Exhausted)


def test_more_than_there_are_at_once_is_refused_whole(connection: Connection, opened: Subnet) -> None:
    outcomes = allocate(connection, opened.id, [Ask(count=11), ANY], CLAIM, terms())
    assert isinstance(outcomes[0], Exhausted)
    assert isinstance(outcomes[1], tuple)
    assert len(rows(connection)) == 1


def test_outside_the_pools_by_name_only_and_outside_the_subnet_never(connection: Connection, opened: Subnet) -> None:
    outcomes = allocate(connection, opened.id, [named("10.0.0.99"), named("10.0.1.1")], CLAIM, terms())
    assert outcomes[0] == ("10.0.0.99",)
    assert isinstance(outcomes[1], Invalid)


def test_a_port_that_the_driver_does_not_know_keeps_its_address(
    connection: Connection, opened: Subnet, tables: Neutron
) -> None:
    for last in (10, 11, 13):
        tables.has_port(f"10.0.0.{last}")
    wary = Terms(fits=fits, now=1000.0, check_ports=True)
    outcomes = allocate(connection, opened.id, [ANY, ANY, named("10.0.0.13")], CLAIM, wary)
    assert outcomes[:2] == [("10.0.0.12",), ("10.0.0.14",)]
    assert isinstance(outcomes[2], Conflict)
    assert [rows(connection)[f"10.0.0.{last}"] for last in (10, 11, 13)] == [State.PROMISED] * 3


def test_however_many_ports_are_not_known_one_request_gets_by(connection: Connection, tables: Neutron) -> None:
    """It failed for good when there were a hundred in a row, as after some days with another driver."""
    wide = subnet("10.0.0.1", "10.0.3.254", "10.0.0.0/22")
    tables.has_subnet(wide.cidr, "10.0.0.1", "10.0.3.254")
    open_subnet(connection, wide, {}, 0.0)
    for last in range(1, 251):
        tables.has_port(f"10.0.0.{last}")
    wary = Terms(fits=fits, now=1000.0, check_ports=True)
    assert allocate(connection, wide.id, [ANY], CLAIM, wary) == [("10.0.0.251",)]
    assert list(rows(connection).values()).count(State.PROMISED) == 250


def test_a_claim_that_met_an_unknown_port_makes_it_known(
    connection: Connection, opened: Subnet, tables: Neutron
) -> None:
    tables.has_port("10.0.0.10")
    assert allocate(connection, opened.id, [ANY], CLAIM, terms()) == [("10.0.0.10",)]  # refused by Neutron's own key
    assert give_back(connection, opened.id, ["10.0.0.10"], "c1", 2.0)
    assert rows(connection) == {"10.0.0.10": State.PROMISED}
    assert allocate(connection, opened.id, [ANY], CLAIM, terms()) == [("10.0.0.11",)]


def test_a_subnet_is_adopted_with_what_its_ports_hold(connection: Connection, tables: Neutron) -> None:
    tables.has_subnet("fd00::/64", "fd00::1", "fd00::ffff")
    tables.has_port("fd00::1")
    tables.has_port("fd00::1:0")  # outside the pool
    assert allocate(connection, SUBNET, [ANY], CLAIM, terms()) == [("fd00::2",)]
    assert rows(connection)["fd00::1:0"] is State.PROMISED


def test_what_was_taken_over_is_looked_at_again(connection: Connection, tables: Neutron) -> None:
    """A port that was just being deleted held its address for ever: who deleted it saw no row to release."""
    tables.has_subnet("10.0.0.0/24", "10.0.0.10", "10.0.0.12")
    tables.has_port("10.0.0.10", "stays")
    tables.has_port("10.0.0.11", "goes")
    assert allocate(connection, SUBNET, [ANY], CLAIM, terms(now=0.0)) == [("10.0.0.12",)]
    connection.execute(delete(table("ipallocations", column("port_id"))).where(column("port_id") == "goes"))
    assert allocate(connection, SUBNET, [ANY], CLAIM, terms(now=601.0)) == [("10.0.0.11",)]
    assert rows(connection)["10.0.0.10"] is State.HELD


def test_a_subnet_that_neutron_does_not_have(connection: Connection, tables: Neutron) -> None:
    with pytest.raises(NotFound):
        allocate(connection, SUBNET, [ANY], CLAIM, terms())


def test_confirm_takes_only_the_claim_it_knows(connection: Connection, opened: Subnet) -> None:
    allocate(connection, opened.id, [ANY], CLAIM, terms())
    held = {"state": int(State.HELD), "since": 1.0, "port_id": "p"}
    assert not store.confirm(connection, opened.id, ["10.0.0.10"], "other", held)
    assert store.confirm(connection, opened.id, ["10.0.0.10"], "c1", held)
    assert not store.confirm(connection, opened.id, ["10.0.0.10"], "c1", held)
    assert not give_back(connection, opened.id, ["10.0.0.10"], "c1", 2.0)
    assert rows(connection) == {"10.0.0.10": State.HELD}


def test_what_is_given_back_is_next(connection: Connection, opened: Subnet) -> None:
    allocate(connection, opened.id, [ANY, ANY], CLAIM, terms())
    assert not give_back(connection, opened.id, ["10.0.0.10"], "c1", 2.0)
    assert allocate(connection, opened.id, [ANY], Mark(State.CLAIMED, "c2"), terms()) == [("10.0.0.10",)]


def test_a_released_address_rests_then_returns_and_sooner_if_there_is_no_other(
    connection: Connection, opened: Subnet
) -> None:
    allocate(connection, opened.id, [Ask(count=5)], Mark(State.HELD), terms(now=0))
    store.release(connection, opened.id, "10.0.0.12", 100.0)
    at = terms(now=130, rest_s=60)
    assert allocate(connection, opened.id, [ANY], CLAIM, at) == [("10.0.0.15",)]
    assert allocate(connection, opened.id, [ANY], CLAIM, terms(now=161, rest_s=60)) == [("10.0.0.12",)]
    store.release(connection, opened.id, "10.0.0.11", 165.0)
    last = allocate(connection, opened.id, [Ask(count=5), ANY], CLAIM, terms(now=166, rest_s=60))
    assert last[0] == ("10.0.0.16", "10.0.0.17", "10.0.0.18", "10.0.0.19", "10.0.0.11")
    assert isinstance(last[1], Exhausted)


def test_what_a_controller_released_whose_clock_is_ahead_is_free_where_there_is_no_other(
    connection: Connection, opened: Subnet
) -> None:
    allocate(connection, opened.id, [Ask(count=10)], Mark(State.HELD), terms(now=0))
    store.release(connection, opened.id, "10.0.0.12", 103.0)
    assert allocate(connection, opened.id, [ANY], CLAIM, terms(now=100, rest_s=60)) == [("10.0.0.12",)]


def test_released_by_name_at_once(connection: Connection, opened: Subnet) -> None:
    allocate(connection, opened.id, [named("10.0.0.12")], Mark(State.HELD), terms(now=0))
    store.release(connection, opened.id, "10.0.0.12", 100.0)
    assert allocate(connection, opened.id, [named("10.0.0.12")], CLAIM, terms(now=101, rest_s=60)) == [("10.0.0.12",)]


def test_the_sweep_takes_back_old_claims_and_keeps_what_has_a_port(
    connection: Connection, opened: Subnet, tables: Neutron
) -> None:
    allocate(connection, opened.id, [Ask(count=3)], CLAIM, terms(now=0))
    allocate(connection, opened.id, [ANY], CLAIM, terms(now=50))
    tables.has_port("10.0.0.11")
    assert sweep(connection, opened, 61, AGES) == 2
    expected = [State.RESTING, State.HELD, State.RESTING, State.CLAIMED]
    assert [rows(connection)[f"10.0.0.{last}"] for last in range(10, 14)] == expected


def test_promises_go_back_much_later_and_what_has_a_port_is_held(
    connection: Connection, opened: Subnet, tables: Neutron
) -> None:
    allocate(connection, opened.id, [Ask(count=10)], CLAIM, terms(now=0))
    promised = {"state": int(State.PROMISED), "since": 0.0, "port_id": "p"}
    for last in range(10, 20):
        assert store.confirm(connection, opened.id, [f"10.0.0.{last}"], "c1", promised)
    tables.has_port("10.0.0.11")
    assert isinstance(allocate(connection, opened.id, [ANY], CLAIM, terms(now=599))[0], Exhausted)
    assert set(rows(connection).values()) == {State.PROMISED}
    assert allocate(connection, opened.id, [ANY], CLAIM, terms(now=601)) == [("10.0.0.10",)]
    assert rows(connection)["10.0.0.11"] is State.HELD
    assert list(rows(connection).values()).count(State.RESTING) == 8
    ports = connection.execute(select(addresses.c.port_id).where(addresses.c.state == State.RESTING)).scalars()
    assert set(ports) == {None}


def test_a_full_subnet_sweeps_by_itself(connection: Connection, opened: Subnet) -> None:
    allocate(connection, opened.id, [Ask(count=10)], CLAIM, terms(now=0))
    assert isinstance(allocate(connection, opened.id, [ANY], CLAIM, terms(now=59))[0], Exhausted)
    assert allocate(connection, opened.id, [ANY], CLAIM, terms(now=61)) == [("10.0.0.10",)]


def test_a_batch_sweeps_when_told_to(connection: Connection, opened: Subnet) -> None:
    allocate(connection, opened.id, [ANY, named("10.0.0.99")], CLAIM, terms(now=0))
    later = Terms(fits=fits, now=61, ages=AGES, sweep=True)
    assert allocate(connection, opened.id, [ANY], Mark(State.CLAIMED, "c2"), later) == [("10.0.0.10",)]
    assert rows(connection) == {"10.0.0.10": State.CLAIMED}  # the one outside the pools is forgotten


def test_pools_change_and_what_is_given_out_stays(connection: Connection, opened: Subnet) -> None:
    allocate(connection, opened.id, [Ask(count=4)], Mark(State.HELD), terms(now=0))
    store.release(connection, opened.id, "10.0.0.10", 1.0)
    store.release(connection, opened.id, "10.0.0.12", 1.0)
    changed = subnet("10.0.0.12", "10.0.0.14")
    change_subnet(connection, changed, 2.0)
    assert rows(connection) == {"10.0.0.11": State.HELD, "10.0.0.12": State.RESTING, "10.0.0.13": State.HELD}
    assert store.all_ranges(connection, opened.id) == [Range(to_number("10.0.0.14"), to_number("10.0.0.14"))]
    outcomes = allocate(connection, opened.id, [ANY] * 3, CLAIM, terms())
    assert outcomes[:2] == [("10.0.0.12",), ("10.0.0.14",)]
    assert isinstance(outcomes[2], Exhausted)


def test_making_a_known_subnet_again_keeps_what_is_given_out(connection: Connection, opened: Subnet) -> None:
    allocate(connection, opened.id, [ANY], Mark(State.HELD), terms())
    open_or_change_subnet(connection, opened, 1.0)
    assert rows(connection) == {"10.0.0.10": State.HELD}


def test_a_removed_subnet_leaves_nothing(connection: Connection, opened: Subnet) -> None:
    allocate(connection, opened.id, [ANY], CLAIM, terms())
    store.remove_subnet(connection, opened.id)
    assert rows(connection) == {}
    assert store.all_ranges(connection, opened.id) == []
    assert not store.is_known(connection, opened.id)


def test_the_cost_does_not_grow_with_what_is_given_out(connection: Connection, tables: Neutron) -> None:
    tables.has_subnet("10.0.0.0/16", "10.0.0.1", "10.0.255.254")
    open_subnet(connection, subnet("10.0.0.1", "10.0.255.254", "10.0.0.0/16"), {}, 0.0)
    counts = []
    for _ in range(3):
        statements: list[str] = []

        def count(*args: object, seen: list[str] = statements) -> None:
            seen.append(str(args[2]))

        event.listen(connection, "before_cursor_execute", count)
        allocate(connection, SUBNET, [ANY] * 200, CLAIM, terms())
        event.remove(connection, "before_cursor_execute", count)
        counts.append(len(statements))
    assert counts == [counts[0]] * 3
    assert counts[0] <= 4

"""One process's way to addresses: batches under the lock, and what happens without it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

import pytest
from sqlalchemy import Connection
from tests.unit.neutron.conftest import SUBNET, Neutron

from muster.base.errors import Exhausted, NotFound, Transient
from muster.neutron.allocation import Ages, Ask
from muster.neutron.allocator import Allocator, Policy
from muster.neutron.locks import NoLocks

Result = TypeVar("Result")


class OneConnection:
    """Transactions on the test's one connection, one after the other."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = Lock()
        self.count = 0

    def run(self, work: Callable[[Connection], Result]) -> Result:
        with self._lock:
            self.count += 1
            return work(self._connection)


class Away:
    """A lock service that does not answer."""

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        raise Transient(f"no {name}")
        yield


def policy(*, refuse: bool = True) -> Policy:
    return Policy(batch=100, rest_s=0, ages=Ages(), refuse_without_lock=refuse, fits=lambda cidr, address: True)


@pytest.fixture
def database(connection: Connection, tables: Neutron) -> OneConnection:
    tables.has_subnet("10.0.0.0/24", "10.0.0.10", "10.0.0.49")
    return OneConnection(connection)


def test_many_threads_get_distinct_addresses_until_there_are_none(database: OneConnection) -> None:
    allocator = Allocator(database, NoLocks(), policy())
    with ThreadPoolExecutor(40) as pool:
        claims = list(pool.map(lambda _: allocator.claim(SUBNET, Ask()), range(40)))
    assert len({claim.ip_addresses for claim in claims}) == 40
    with pytest.raises(Exhausted):
        allocator.claim(SUBNET, Ask())
    allocator.give_back(claims[:1])
    assert allocator.claim(SUBNET, Ask()).ip_addresses == claims[0].ip_addresses


def test_nothing_is_kept_of_subnets_that_nobody_waits_for(database: OneConnection, tables: Neutron) -> None:
    """Something stayed for each subnet that a worker ever had an address in."""
    allocator = Allocator(database, NoLocks(), policy())
    tables.has_subnet("10.1.0.0/24", "10.1.0.10", "10.1.0.49", "another")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda index: allocator.claim([SUBNET, "another"][index % 2], Ask()), range(40)))
    with pytest.raises(NotFound):
        allocator.claim("none", Ask())
    assert allocator._combiners == {}


def test_without_the_lock_service_nothing_is_allocated(database: OneConnection) -> None:
    allocator = Allocator(database, Away(), policy())
    with pytest.raises(Transient, match="no subnet/"):
        allocator.claim(SUBNET, Ask())
    assert database.count == 0


def test_without_the_lock_service_but_allowed_to_go_on(
    database: OneConnection, caplog: pytest.LogCaptureFixture
) -> None:
    allocator = Allocator(database, Away(), policy(refuse=False))
    assert allocator.claim(SUBNET, Ask()).ip_addresses == ("10.0.0.10",)
    assert allocator.claim(SUBNET, Ask()).ip_addresses == ("10.0.0.11",)
    assert len(caplog.records) == 1  # said once, not for each request


def test_a_port_that_was_met_makes_the_next_batches_look_first(database: OneConnection, tables: Neutron) -> None:
    allocator = Allocator(database, NoLocks(), policy())
    allocator.claim(SUBNET, Ask())
    tables.has_port("10.0.0.11")
    tables.has_port("10.0.0.12")
    met = allocator.claim(SUBNET, Ask())
    assert met.ip_addresses == ("10.0.0.11",)  # refused by Neutron's own key, then given back
    allocator.give_back([met])
    assert allocator.claim(SUBNET, Ask()).ip_addresses == ("10.0.0.13",)

"""The locks of the IPAM driver for Neutron (synchronous): etcd's over its HTTP gateway, and Tooz's."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from muster.base.errors import Invalid, Transient
from muster.neutron.locks import Locks, NoLocks, open_locks
from tests.engines.etcd import Etcd

WAIT_S = 300.0
LEASE_S = 20

Opener = Callable[[], Locks]


@pytest.fixture(params=["etcd", "file"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Each call is another worker."""
    if request.param == "file":
        return lambda: open_locks(f"file://{tmp_path}", LEASE_S, WAIT_S)
    etcd: Etcd = request.getfixturevalue("etcd")
    url = f"etcd://{etcd.endpoints}/{tmp_path.name}"
    return lambda: open_locks(url, LEASE_S, WAIT_S)


def test_one_holds_at_a_time(opener: Opener) -> None:
    inside, most, rounds = [0], [0], []
    guard = threading.Lock()

    def work(locks: Locks) -> None:
        for _ in range(5):
            with locks.hold("subnet/a"):
                with guard:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                time.sleep(0.002)
                with guard:
                    inside[0] -= 1
                    rounds.append(1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, [opener() for _ in range(4)]))
    assert (most[0], len(rounds)) == (1, 20)


def test_names_do_not_wait_for_each_other(opener: Opener) -> None:
    with opener().hold("subnet/a"), opener().hold("subnet/b"):
        pass


def test_an_error_under_the_lock_gives_it_back(opener: Opener) -> None:
    with pytest.raises(ValueError), opener().hold("subnet/a"):
        raise ValueError
    with opener().hold("subnet/a"):
        pass


def test_a_holder_that_is_gone_is_waited_for_as_long_as_its_lease(etcd: Etcd) -> None:
    url = f"etcd://{etcd.endpoints}/gone"
    locks = open_locks(url, 2, WAIT_S)
    lost = locks.hold("subnet/a")
    lost.__enter__()  # and never left: as a process that was killed
    with open_locks(url, 2, WAIT_S).hold("subnet/a"):
        pass


def test_no_lease_is_left(etcd: Etcd) -> None:
    before = etcd.lease_ids()
    locks = open_locks(f"etcd://{etcd.endpoints}/leases", LEASE_S, WAIT_S)
    for _ in range(10):
        with locks.hold("subnet/a"):
            pass
    assert etcd.lease_ids() <= before


def test_who_waits_too_long_is_told(etcd: Etcd) -> None:
    url = f"etcd://{etcd.endpoints}/long"
    with open_locks(url, 30, WAIT_S).hold("subnet/a"), pytest.raises(Transient):  # noqa: SIM117
        with open_locks(url, 1, 1).hold("subnet/a"):
            pass


def test_a_service_that_is_away_is_said_at_once() -> None:
    with pytest.raises(Transient), open_locks("etcd://127.0.0.1:1", LEASE_S, WAIT_S).hold("subnet/a"):
        pass


def test_a_redis_that_is_away_is_said_soon_and_then_at_once() -> None:
    locks = open_locks("redis://127.0.0.1:1", LEASE_S, WAIT_S)
    began = time.monotonic()
    with pytest.raises(Transient), locks.hold("subnet/a"):
        pass
    assert time.monotonic() - began < 30  # its own client says so after a minute
    with pytest.raises(Transient, match="a moment ago"), locks.hold("subnet/a"):
        pass


def test_no_url_no_lock_and_wrong_ones_are_refused() -> None:
    assert isinstance(open_locks("", LEASE_S, WAIT_S), NoLocks)
    for url in ("localhost:2379", "nonsense://x", "etcd://host:1/?what=1"):
        with pytest.raises(Invalid):
            open_locks(url, LEASE_S, WAIT_S)

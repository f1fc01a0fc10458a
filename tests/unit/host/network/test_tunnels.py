"""Which tunnels a host has, and which requests keep their peers true."""

import errno
from typing import Any

import pytest
from msgspec import structs

from muster.base.errors import Conflict
from muster.domain.specs import NetworkSpec
from muster.host.network.fdb import EVERYBODY, Entry
from muster.host.network.rtnl import RtnlFailed
from muster.host.network.tunnels import Tunnels, check

HERE = "192.0.2.1"
NETWORK = NetworkSpec(id="11111111-1111-4111-8111-111111111111", generation=1, segment_id=7)
NAME = "vxl11111111-11"
INDEX = {NAME: 5}


class Kernel:
    """Stands where netlink would: keeps entries, and how often it was asked for them."""

    def __init__(self) -> None:
        self.entries: set[Entry] = set()
        self.listed = self.sent = 0
        self.refuses = False

    def tunnels(self, address: str | None = HERE) -> Tunnels:
        tunnels = Tunnels(address, lambda: None, self._demand)  # type: ignore[arg-type, return-value]
        tunnels._entries = self._list  # type: ignore[method-assign]
        return tunnels

    def floods(self) -> set[str]:
        return {entry.address for entry in self.entries if entry.mac == EVERYBODY}

    def _list(self) -> list[Entry]:
        self.listed += 1
        return list(self.entries)

    def _demand(self, requests: Any, what: str, tolerated: Any) -> None:
        assert set(tolerated) == {errno.EEXIST, errno.ENOENT}
        if self.refuses:
            raise RtnlFailed("no")
        self.sent += 1
        for request in requests:
            attributes = dict(request["attrs"])
            entry = Entry(request["ifindex"], attributes["NDA_LLADDR"], attributes["NDA_DST"])
            (self.entries.add if request["header"]["type"] == 28 else self.entries.discard)(entry)


def told(*members: str) -> dict[str, NetworkSpec]:
    return {NAME: structs.replace(NETWORK, member_generation=1, members=members)}


def test_a_host_without_an_address_and_a_network_without_a_segment_have_no_tunnel() -> None:
    networks = {NETWORK.id: NETWORK}
    assert Kernel().tunnels(None).named(networks) == {}
    assert Kernel().tunnels().named(networks) == {NAME: NETWORK}
    assert Kernel().tunnels().named({NETWORK.id: structs.replace(NETWORK, segment_id=0)}) == {}


def test_peers_are_the_other_members_and_nothing_is_sent_twice() -> None:
    kernel = Kernel()
    tunnels = kernel.tunnels()
    tunnels.creation(NAME, NETWORK, {})
    tunnels.set_peers(told(HERE, "192.0.2.2", "192.0.2.3", "127.0.0.1", "nonsense"), INDEX)
    assert kernel.floods() == {"192.0.2.2", "192.0.2.3"}
    tunnels.set_peers(told("192.0.2.3", "192.0.2.2", HERE), INDEX)
    assert (kernel.sent, kernel.listed) == (1, 0)


def test_who_leaves_is_forgotten_with_what_was_learned_of_it() -> None:
    kernel = Kernel()
    tunnels = kernel.tunnels()
    tunnels.creation(NAME, NETWORK, {})
    tunnels.set_peers(told("192.0.2.2", "192.0.2.3"), INDEX)
    learned, other = Entry(5, "fa:16:3e:00:00:01", "192.0.2.3"), Entry(6, "fa:16:3e:00:00:01", "192.0.2.3")
    kernel.entries |= {learned, other}
    tunnels.set_peers(told("192.0.2.2"), INDEX)
    assert kernel.entries == {Entry(5, EVERYBODY, "192.0.2.2"), other}


def test_a_fresh_agent_looks_once_at_what_an_earlier_one_left() -> None:
    kernel = Kernel()
    kernel.entries = {Entry(5, EVERYBODY, "192.0.2.2"), Entry(5, EVERYBODY, "192.0.2.9")}
    tunnels = kernel.tunnels()
    tunnels.set_peers(told("192.0.2.2", "192.0.2.3"), INDEX)
    assert kernel.floods() == {"192.0.2.2", "192.0.2.3"}
    looks = kernel.listed
    tunnels.set_peers(told("192.0.2.2", "192.0.2.3", "192.0.2.4"), INDEX)
    assert kernel.listed == looks


def test_members_that_are_not_told_change_nothing() -> None:
    kernel = Kernel()
    kernel.entries = {Entry(5, EVERYBODY, "192.0.2.2")}
    kernel.tunnels().set_peers({NAME: NETWORK}, INDEX)
    assert kernel.floods() == {"192.0.2.2"}


def test_after_a_refusal_the_kernel_is_looked_at_again() -> None:
    kernel = Kernel()
    tunnels = kernel.tunnels()
    tunnels.creation(NAME, NETWORK, {})
    kernel.refuses = True
    with pytest.raises(RtnlFailed):
        tunnels.set_peers(told("192.0.2.2"), INDEX)
    kernel.refuses = False
    tunnels.set_peers(told("192.0.2.2"), INDEX)
    assert kernel.floods() == {"192.0.2.2"}


def test_a_segment_that_is_taken_is_told() -> None:
    check({NAME: NETWORK}, INDEX)
    with pytest.raises(Conflict, match="VXLAN identifier 7"):
        check({NAME: NETWORK}, {})

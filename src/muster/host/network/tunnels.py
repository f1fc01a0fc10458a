"""VXLAN interfaces: one per network, which joins its bridge to the bridges of the network's other hosts.

Invariants: frames for everybody, and for MACs not learned yet, go to exactly the hosts that the network's members are
(no multicast in the underlay); after a host has left, nothing is sent there, learned addresses included. MACs are
learned from the frames that come, as a switch does: nothing is kept per guest. Source: RFC 7348.
"""

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence

from muster.base.errors import Conflict
from muster.domain.network_members import tunnel_address
from muster.domain.specs import NetworkSpec
from muster.host.names import tunnel_name
from muster.host.network.fdb import EVERYBODY, UDP_PORT, Entry, delete_entry, list_entries, parsed, put_entry
from muster.host.network.rtnl import Request, Rtnl, link_message, link_options, new_link

_Demand = Callable[[Sequence[Request], str, Sequence[int]], None]


class Tunnels:
    """The tunnels of a host; they end at `address` (None: it has none). Used by `Links`, in its thread.

    `talk` gives the conversation with the kernel, `demand` sends requests and raises for those refused.
    """

    def __init__(self, address: str | None, talk: Callable[[], Rtnl], demand: _Demand) -> None:
        self.address = address
        self._talk = talk
        self._demand = demand
        self._peers: dict[str, frozenset[str]] = {}  # by interface, as they stand in the kernel; others are not known

    def named(self, networks: Mapping[str, NetworkSpec]) -> dict[str, NetworkSpec]:
        """Those of these networks that have a tunnel here, by its name."""
        if self.address is None:
            return {}
        return {tunnel_name(network_id): network for network_id, network in networks.items() if network.segment_id}

    def creation(self, name: str, network: NetworkSpec, attributes: Mapping[str, int]) -> Request:
        """A request for a network's tunnel. EEXIST may mean that its segment is taken; see `check`."""
        options = {
            "IFLA_VXLAN_ID": network.segment_id,
            "IFLA_VXLAN_LOCAL": self.address,
            "IFLA_VXLAN_PORT": UDP_PORT,
            "IFLA_VXLAN_LEARNING": 1,
        }
        self._peers[name] = frozenset()
        return new_link(name, "vxlan", options, attributes)

    def moved(self, index: int) -> Request:
        """A request that a tunnel which may be of an earlier agent ends at this host's address."""
        return link_message(link_options("vxlan", {"IFLA_VXLAN_LOCAL": self.address}), index=index)

    def set_peers(self, tunnels: Mapping[str, NetworkSpec], indexes: Mapping[str, int]) -> None:
        """Frames for everybody go to these networks' members. One send; a network whose members are not told is left.

        Raises RtnlFailed. The kernel's entries are listed when a host has left, and for tunnels of an earlier agent.
        """
        told = {name: network for name, network in tunnels.items() if network.member_generation >= 0}
        self._learn([name for name in told if name not in self._peers], indexes)
        requests: list[Request] = []
        gone: set[tuple[int, str]] = set()
        wanted = {name: self._others(network.members) for name, network in told.items()}
        for name, peers in wanted.items():
            index, have = indexes[name], self._peers[name]
            requests += [put_entry(Entry(index, EVERYBODY, address)) for address in sorted(peers - have)]
            gone |= {(index, address) for address in have - peers}
        if gone:
            requests += [delete_entry(entry) for entry in self._entries() if (entry.index, entry.address) in gone]
        if requests:
            self.forget(wanted)
            self._demand(requests, "a tunnel", (errno.EEXIST, errno.ENOENT))
        self._peers |= wanted

    def forget(self, names: Iterable[str] | None = None) -> None:
        """What stands in the kernel (None: of all tunnels) is to be looked at again."""
        for name in list(self._peers if names is None else names):
            self._peers.pop(name, None)

    def _others(self, members: Iterable[str]) -> frozenset[str]:
        addresses = (tunnel_address(member) for member in members)
        return frozenset(address for address in addresses if address is not None and address != self.address)

    def _learn(self, names: Sequence[str], indexes: Mapping[str, int]) -> None:
        if not names:
            return
        found: dict[int, set[str]] = {indexes[name]: set() for name in names}
        for entry in self._entries():
            if entry.mac == EVERYBODY and entry.index in found:
                found[entry.index].add(entry.address)
        self._peers |= {name: frozenset(found[indexes[name]]) for name in names}

    def _entries(self) -> list[Entry]:
        return parsed(self._talk().dump(list_entries()))


def check(tunnels: Mapping[str, NetworkSpec], indexes: Mapping[str, int]) -> None:
    """Raises Conflict where a tunnel could not be made since somebody else's interface has its segment."""
    if missing := [network for name, network in tunnels.items() if name not in indexes]:
        raise Conflict(
            f"an interface that is not Muster's has the VXLAN identifier {missing[0].segment_id} on UDP port {UDP_PORT}"
            " in this network namespace; delete it, or give the network another segment"
        )

"""Bridges and taps: what exists, whose it is, and changes of many at once.

Whose an interface is stands in the interface itself: its alias is `muster:network:<id>`, `muster:tunnel:<id>` or
`muster:port:<id>`, and a bridge or tunnel is in Muster's link group from the moment it is made. Invariants: an
interface without that mark is never changed or deleted, whatever its name; a crash leaves none without the mark.

A network's tunnel to other hosts (`tunnels`) is one more port of its bridge. Since the bridge's addresses are the same
on each host, the firewall keeps everything that the host itself says or hears from that port.
All methods block and belong to one thread.
"""

import errno
import hashlib
import socket
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from muster.base.errors import Conflict, Exhausted, Invalid
from muster.domain.specs import NetworkSpec, PortSpec
from muster.host.names import bridge_name, tap_name
from muster.host.network import sysctl
from muster.host.network.checks import address_of, interface_of, mtu_of, uuid_of
from muster.host.network.rtnl import (
    Answer,
    Link,
    Request,
    Rtnl,
    RtnlFailed,
    address_message,
    delete_group,
    link_message,
    new_link,
    no_queue,
    query_link,
    why,
)
from muster.host.network.ruleset import METADATA_IP
from muster.host.network.taps import open_taps, persist
from muster.host.network.tunnels import Tunnels, check

LINK_GROUP = 0x4D555354  # "MUST"
_DOOMED_GROUP = 0x4D555355
_OPEN_AT_ONCE = 256  # taps whose files are open at a time, below the usual limit of 1,024 files
_BRIDGE = {
    "IFLA_BR_FORWARD_DELAY": 0,
    "IFLA_BR_STP_STATE": 0,
    "IFLA_BR_MCAST_SNOOPING": 0,
    "IFLA_BR_NF_CALL_IPTABLES": 1,
    "IFLA_BR_NF_CALL_IP6TABLES": 1,
}
_NO_AUTOCONF = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]}


class Links:
    """A host's bridges, taps and tunnels, which end at `tunnel_address` (None: it has no tunnels).

    `mtu_max` 0 means that networks' MTUs stand as they are.
    """

    def __init__(self, *, mtu_max: int = 0, tap_uid: int | None = None, tunnel_address: str | None = None) -> None:
        self._mtu_max = mtu_max
        self._tap_uid = tap_uid
        self._rtnl: Rtnl | None = None
        self._tunnels = Tunnels(tunnel_address, self._talk, self._demand)

    def put(self, networks: Sequence[NetworkSpec], ports: Sequence[PortSpec]) -> None:
        """Bridges and tunnels of these networks and taps of these ports exist, are up and joined; tunnels lead to the
        networks' members. `networks` has all of the ports'.

        Raises Invalid, Conflict (a foreign interface has the name), Exhausted (a full bridge), Unsupported, RtnlFailed.
        Cost: one query and two changes per item, three per new tap, 128 in a send; six system calls per new tap.
        """
        wanted = {uuid_of(network.id): network for network in networks}
        if unknown := {uuid_of(port.network_id) for port in ports} - wanted.keys():
            raise Invalid(f"ports of a network that is not known here: {', '.join(sorted(unknown))}")
        for network in wanted.values():
            mtu_of(network, self._mtu_max)
        bridges = {bridge_name(network_id): _alias("network", network_id) for network_id in wanted}
        tunnels = self._tunnels.named(wanted)
        ends = {name: _alias("tunnel", network.id) for name, network in tunnels.items()}
        taps = {tap_name(uuid_of(port.id)): _alias("port", port.id) for port in ports}
        there = self._ours(bridges | ends | taps)
        self._make([network for key, network in wanted.items() if bridge_name(key) not in there], tunnels, there)
        indexes = self._indexes([*bridges, *tunnels])
        check(tunnels, indexes)
        self._address_bridges(wanted, indexes)
        self._join_tunnels(tunnels, indexes, there)
        joins = [self._join(port, wanted[uuid_of(port.network_id)], indexes) for port in ports]
        fresh = [(name, join) for name, join in zip(taps, joins, strict=True) if name not in there]
        self._demand([part for name, join in zip(taps, joins, strict=True) if name in there for part in join], "a tap")
        for start in range(0, len(fresh), _OPEN_AT_ONCE):
            part = fresh[start : start + _OPEN_AT_ONCE]
            with open_taps([name for name, _ in part], self._tap_uid) as files:
                plain = [no_queue(socket.if_nametoindex(name)) for name, _ in part]
                self._demand([*plain, *(request for _, join in part for request in join)], "a tap")
                persist(files)

    def delete_ports(self, port_ids: Iterable[str]) -> None:
        """Taps of these ports are gone; what is not ours stays. Raises Invalid, RtnlFailed."""
        wanted = {tap_name(uuid_of(port_id)): _alias("port", port_id) for port_id in port_ids}
        answers = zip(wanted.values(), self._talk().batch([query_link(name) for name in wanted]), strict=True)
        self._delete([answer.link for alias, answer in answers if answer.link and answer.link.alias == alias])

    def keep(self, network_ids: Collection[str], port_ids: Iterable[str]) -> bool:
        """Delete every interface of Muster's that belongs to none of these. Raises Invalid, RtnlFailed.

        False if a tap could only be shut, since a guest has it open: QEMU spins on a tap that is deleted under it.
        """
        kept = {_alias("network", network_id) for network_id in network_ids}
        if self._tunnels.address is not None:
            kept |= {_alias("tunnel", network_id) for network_id in network_ids}
        kept |= {_alias("port", port_id) for port_id in port_ids}
        self._tunnels.forget()
        doomed = [link for link in self._talk().links() if is_ours(link) and link.alias not in kept]
        in_use = [link for link in doomed if link.carrier and link.name.startswith("tap")]
        shut = [link_message({"IFLA_MASTER": 0}, index=link.index, up=False) for link in in_use]
        self._demand(shut, "a tap", tolerated=(errno.ENODEV,))
        self._delete([link for link in doomed if link not in in_use])
        return not in_use

    def bridges(self) -> dict[str, str]:
        """Names of Muster's bridges that exist, by network id."""
        return self._names("network")

    def taps(self) -> dict[str, str]:
        """Names of Muster's taps that exist, by port id."""
        return self._names("port")

    def close(self) -> None:
        """Leave; interfaces stay."""
        if self._rtnl is not None:
            self._rtnl.close()
            self._rtnl = None

    def _names(self, kind: str) -> dict[str, str]:
        prefix = f"muster:{kind}:"
        found = (link for link in self._talk().links() if link.alias.startswith(prefix))
        return {link.alias.removeprefix(prefix): link.name for link in found}

    def _talk(self) -> Rtnl:
        if self._rtnl is None:
            self._rtnl = Rtnl()
        return self._rtnl

    def _ours(self, wanted: dict[str, str]) -> set[str]:
        """Which of these names exist as ours. Raises Conflict for a foreign interface, before anything changes."""
        there = set()
        for (name, alias), answer in zip(
            wanted.items(), self._talk().batch([query_link(name) for name in wanted]), strict=True
        ):
            if answer.error == errno.ENODEV:
                continue
            if answer.link is None:
                raise RtnlFailed(f"the interface {name} cannot be looked up: {why(answer.error)}")
            if not (answer.link.alias == alias or (is_ours(answer.link) and not answer.link.alias)):
                raise Conflict(
                    f"an interface named {name} exists that is not Muster's for this purpose"
                    f" (alias {answer.link.alias!r}); rename or delete it"
                )
            there.add(name)
        return there

    def _make(
        self, networks: Sequence[NetworkSpec], tunnels: Mapping[str, NetworkSpec], there: Collection[str]
    ) -> None:
        """Bridges for these networks, and those of the tunnels that are not there."""
        requests: list[Request] = [
            new_link(
                bridge_name(uuid_of(network.id)),
                "bridge",
                _BRIDGE,
                {"IFLA_GROUP": LINK_GROUP, "IFLA_ADDRESS": bridge_mac(network.id)},
            )
            for network in networks
        ]
        for name, network in tunnels.items():
            if name not in there:
                requests.append(self._tunnels.creation(name, network, {"IFLA_GROUP": LINK_GROUP}))
        self._demand(requests, "a bridge", tolerated=(errno.EEXIST,))

    def _indexes(self, names: Sequence[str]) -> dict[str, int]:
        answers = self._talk().batch([query_link(name) for name in names])
        return {name: answer.link.index for name, answer in zip(names, answers, strict=True) if answer.link}

    def _address_bridges(self, networks: Mapping[str, NetworkSpec], indexes: Mapping[str, int]) -> None:
        """Switches, mark, MTU and addresses of bridges."""
        names = {bridge_name(network_id): network for network_id, network in networks.items()}
        for name, network in names.items():
            sysctl.write("ipv4", name, sysctl.BRIDGE_IPV4)
            sixes = any(subnet.ip_version == 6 for subnet in network.subnets)
            sysctl.write("ipv6", name, sysctl.BRIDGE_IPV6 if sixes else {"disable_ipv6": "1"})
        requests: list[Request] = []
        for name, network in names.items():
            # The group too: an agent that died while it deleted this bridge left it among the doomed.
            mark = {"IFLA_IFALIAS": _alias("network", network.id), "IFLA_GROUP": LINK_GROUP}
            attributes = {**mark, "IFLA_MTU": mtu_of(network, self._mtu_max)}
            requests.append(link_message(attributes, index=indexes[name], up=True))
            requests += [
                address_message(indexes[name], address, prefixlen, version=version)
                for address, prefixlen, version in bridge_addresses(network)
            ]
        self._demand(requests, "a bridge", tolerated=(errno.EEXIST,))

    def _join_tunnels(
        self, tunnels: Mapping[str, NetworkSpec], indexes: Mapping[str, int], there: Collection[str]
    ) -> None:
        """Mark the tunnels, join them to their bridges, tell them their peers, then up."""
        requests: list[Request] = [self._tunnels.moved(indexes[name]) for name in tunnels if name in there]
        for name, network in tunnels.items():
            attributes = self._of_bridge(network, indexes, _alias("tunnel", network.id))
            requests.append(link_message(attributes, index=indexes[name]))
        self._demand(requests, "a tunnel")
        self._tunnels.set_peers(tunnels, indexes)
        self._demand([link_message({}, index=indexes[name], up=True) for name in tunnels], "a tunnel")

    def _join(self, port: PortSpec, network: NetworkSpec, indexes: dict[str, int]) -> tuple[Request, Request]:
        """Mark a tap and join it to its bridge; then up (or down, as the user wishes).

        Two requests, since the kernel brings a link up before it reads that the link shall have no IPv6 of its own.
        """
        name = {"IFLA_IFNAME": tap_name(uuid_of(port.id))}
        attributes = {**name, **self._of_bridge(network, indexes, _alias("port", port.id))}
        return link_message(attributes), link_message(name, up=port.admin_state_up)

    def _of_bridge(self, network: NetworkSpec, indexes: Mapping[str, int], alias: str) -> dict[str, Any]:
        """What a link has that is joined to a network's bridge."""
        return {
            "IFLA_IFALIAS": alias,
            "IFLA_GROUP": LINK_GROUP,
            "IFLA_MTU": mtu_of(network, self._mtu_max),
            "IFLA_MASTER": indexes[bridge_name(uuid_of(network.id))],
            "IFLA_AF_SPEC": _NO_AUTOCONF,
        }

    def _delete(self, links: Sequence[Link]) -> None:
        """Move the doomed into a group of their own, then delete the group: 500 cost as much as a few."""
        if not links:
            return
        moved = [link_message({"IFLA_GROUP": _DOOMED_GROUP}, index=link.index) for link in links]
        self._demand(moved, "an interface", tolerated=(errno.ENODEV,))
        self._demand([delete_group(_DOOMED_GROUP)], "interfaces", tolerated=(errno.ENODEV,))

    def _demand(self, requests: Sequence[Request], what: str, tolerated: Sequence[int] = ()) -> None:
        refuse_errors(self._talk().batch(requests), what, lambda error: error in tolerated)


def refuse_errors(answers: Iterable[Answer], what: str, tolerated: Callable[[int], bool]) -> None:
    """Raise RtnlFailed, or Exhausted for a full bridge, for the first answer that is a failure."""
    for answer in answers:
        if answer.error == errno.EXFULL:
            raise Exhausted("a network has 1,023 ports on this host, which is as many as the kernel lets a bridge have")
        if answer.error and not tolerated(answer.error):
            raise RtnlFailed(f"the kernel refused to change {what}: {why(answer.error)}")


def is_ours(link: Link) -> bool:
    """Whether an interface was made by Muster: by its alias, or, where a crash left none, by its group and name."""
    if link.alias.startswith(("muster:network:", "muster:tunnel:", "muster:port:")):
        return True
    return link.group in (LINK_GROUP, _DOOMED_GROUP) and not link.alias and link.name.startswith(("brq", "vxl", "tap"))


def bridge_mac(network_id: str) -> str:
    """The bridge's MAC: the same on each host and for ever, so that guests' ARP entries stay true."""
    digest = hashlib.sha256(uuid_of(network_id).encode()).digest()
    return ":".join(f"{octet:02x}" for octet in (0x0E, *digest[:5]))


def bridge_addresses(network: NetworkSpec) -> list[tuple[str, int, int]]:
    """What a bridge carries, as (address, prefix length, IP version): its DHCP ports and the metadata address."""
    addresses = []
    for subnet in network.subnets:
        if subnet.dhcp_address is not None:
            prefixlen = interface_of(subnet.cidr).network.prefixlen
            addresses.append((address_of(subnet.dhcp_address), prefixlen, subnet.ip_version))
    return [*addresses, (METADATA_IP, 32, 4)]


def _alias(kind: str, item_id: str) -> str:
    return f"muster:{kind}:{uuid_of(item_id)}"

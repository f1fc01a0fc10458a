"""The part of the nftables rules that does not depend on ports, networks or groups, as text.

Everything per port, network or group lives in sets, maps and named chains that these rules look up, so that adding one
costs the same however many are there. Two variants: `BRIDGE` uses the bridge family's own connection tracking (kernel
option NF_CONNTRACK_BRIDGE); `BR_NETFILTER` lets bridged frames pass the inet hooks, which note in the packet's mark
whether it answers a known connection.

Invariants: a tap in `secured` carries nothing that is not accepted explicitly (fail closed); packets in a connection's
original direction are judged by the rules each time, so a rule that is withdrawn also ends what it had allowed.

Applying the text again is idempotent and atomic: declarations are kept, the base chains' rules are replaced.
Source: nft(8); the hook priorities of br_netfilter (0) and conntrack (-200) in the kernel's netfilter_bridge.h.
"""

from collections.abc import Sequence

from muster.host.network.checks import address_of
from muster.host.network.fdb import UDP_PORT
from muster.host.network.settings import Conntrack, NetworkSettings

TABLE = "muster"
METADATA_IP = "169.254.169.254"

# Two bits of the packet's mark. The other bits stay with the operator's own rules.
ESTABLISHED = 0x04000000  # answers, or is related to, a connection that was let through
TRUSTED = 0x08000000  # sent by the host itself: DHCP, router advertisement, metadata
_KEEP = 0xFFFFFFFF & ~(ESTABLISHED | TRUSTED)

_BRIDGE_SETS = (
    "set secured { type ifname; }",
    "set tunnels { type ifname; }",
    "set macs { type ifname . ether_addr; }",
    "set src4 { type ifname . ether_addr . ipv4_addr; }",
    "set src6 { type ifname . ether_addr . ipv6_addr; }",
    "set nd { typeof iifname . ether saddr . @th,64,128; }",
    "set chaddr { typeof iifname . @th,288,48; }",
    "map dhcp4 { type ifname : ether_addr; }",
    "map dhcp6 { type ifname : ether_addr; }",
    "map pairs { type ifname : verdict; }",
    "map egress { type ifname : verdict; }",
    "map ingress { type ifname : verdict; }",
)

_ANTI_SPOOF = {
    "spoof": (
        "type filter hook prerouting priority -300; policy accept;",
        "iifname @secured jump from_guest",
    ),
    "from_guest": (
        "iifname . ether saddr != @macs counter drop",
        "ether type arp goto from_guest_arp",
        "ether type ip goto from_guest_ip4",
        "ether type ip6 goto from_guest_ip6",
        "counter drop",  # other protocols and VLAN tags
    ),
    "from_guest_arp": (
        "arp saddr ip 0.0.0.0 iifname . arp saddr ether @macs return",  # probes (RFC 5227)
        "iifname . arp saddr ether . arp saddr ip @src4 return",
        "iifname vmap @pairs",
        "counter drop",
    ),
    "from_guest_ip4": (
        "udp sport 67 udp dport 68 counter drop",  # guests are no DHCP servers
        "udp sport 68 udp dport 67 iifname . @th,288,48 != @chaddr counter drop",  # nor clients for somebody else
        "ip saddr 0.0.0.0 udp sport 68 udp dport 67 return",
        "iifname . ether saddr . ip saddr @src4 return",
        "iifname vmap @pairs",
        "counter drop",
    ),
    "from_guest_ip6": (
        "icmpv6 type { nd-router-advert, nd-redirect } counter drop",
        "udp sport 547 udp dport 546 counter drop",
        "ip6 saddr :: icmpv6 type { nd-neighbor-solicit, mld-listener-report, mld2-listener-report } return",
        "icmpv6 type nd-neighbor-advert iifname . ether saddr . @th,64,128 != @nd goto from_guest_pairs",
        "iifname . ether saddr . ip6 saddr @src6 return",
        "goto from_guest_pairs",
    ),
    "from_guest_pairs": (
        "iifname vmap @pairs",
        "counter drop",
    ),
}

# What Neutron, too, lets pass whatever the groups say: neighbour discovery, multicast listening, asking for a router.
_ND_OUT = (
    "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, "
    "mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept"
)
_ND_IN = _ND_OUT.replace("nd-router-solicit", "nd-router-advert")

# What a guest asks everybody goes to its own host's server alone, where that serves the guest: flooded, it would cost
# once per port of the network.
_TO_DHCP = (
    "ether daddr ff:ff:ff:ff:ff:ff ether type ip udp sport 68 udp dport 67 ether daddr set iifname map @dhcp4 accept",
    "ether daddr 33:33:00:01:00:02 ether type ip6 udp sport 546 udp dport 547"
    " ether daddr set iifname map @dhcp6 accept",
)

_GROUPS = {
    "egress": (
        "type filter hook prerouting priority 10; policy accept;",
        "iifname != @secured accept",
        "ether type arp accept",
        *_TO_DHCP,
        "ether type ip udp sport 68 udp dport 67 accept",
        "ether type ip6 udp sport 546 udp dport 547 accept",
        f"ip daddr {METADATA_IP} tcp dport 80 accept",
        _ND_OUT,
        "iifname vmap @egress",
        "drop",
    ),
    "ingress": (
        "type filter hook postrouting priority 10; policy accept;",
        "oifname != @secured accept",
        "ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 oifname . ether daddr != @macs drop",
        "ether type arp accept",
        f"meta mark & {TRUSTED:#x} == {TRUSTED:#x} accept",
        _ND_IN,
        "oifname vmap @ingress",
        "drop",
    ),
    "from_host": (
        "type filter hook output priority -100; policy accept;",
        "oifname @tunnels drop",
        f"ether type ip udp sport 67 udp dport 68 meta mark set meta mark | {TRUSTED:#x}",
        f"ip saddr {METADATA_IP} tcp sport 80 meta mark set meta mark | {TRUSTED:#x}",
        f"ether type ip6 udp sport 547 udp dport 546 meta mark set meta mark | {TRUSTED:#x}",
        f"icmpv6 type nd-router-advert meta mark set meta mark | {TRUSTED:#x}",
    ),
}

# A bridge's addresses are the same on each host, and each host serves its own guests: a tunnel is for guests alone.
_TUNNELS = {
    "to_host": (
        "type filter hook input priority -100; policy accept;",
        "iifname @tunnels drop",
    ),
    "between_hosts": (
        "type filter hook forward priority -10; policy accept;",  # br_netfilter goes on behind its own (0)
        "iifname @tunnels jump no_dhcp",
        "oifname @tunnels jump no_dhcp",
    ),
    "no_dhcp": (
        "ether type ip udp sport { 67, 68 } udp dport { 67, 68 } drop",
        "ether type ip6 udp sport { 546, 547 } udp dport { 546, 547 } drop",
    ),
}

_INET_SETS = (
    "set bridges { type ifname; }",
    "set bridged { type ifname . ifname; }",
    "map zones { typeof iifname : ct zone; }",
)


def established_rules(conntrack: Conntrack) -> tuple[str, ...]:
    """Rules with which a stateful group's chain begins: accept what answers a connection that was let through."""
    if conntrack is Conntrack.BRIDGE:
        return ("ct state related accept", "ct state established ct direction reply accept")
    return (f"meta mark & {ESTABLISHED:#x} == {ESTABLISHED:#x} accept",)


def base_text(conntrack: Conntrack, settings: NetworkSettings) -> str:
    """Both tables' declarations and base chains for one transaction; `conntrack` is not AUTO."""
    native = conntrack is Conntrack.BRIDGE
    bridge_sets = (*_BRIDGE_SETS, *(("map port_zones { typeof iifname : ct zone; }",) if native else ()))
    bridge_chains = _ANTI_SPOOF | _GROUPS | _TUNNELS
    if native:
        zone = ("type filter hook prerouting priority -300; policy accept;", "ct zone set iifname map @port_zones")
        bridge_chains = bridge_chains | {"zone": zone}
    bridge = _table("bridge", bridge_sets, bridge_chains)
    return bridge + _table("inet", _INET_SETS, _inet_chains(settings, native=native))


def _inet_chains(settings: NetworkSettings, *, native: bool) -> dict[str, tuple[str, ...]]:
    """Zones keep equal addresses of different networks apart; guests reach few things of the host's own."""
    chains: dict[str, tuple[str, ...]] = {
        "zone_in": ("type filter hook prerouting priority -300; policy accept;", "ct zone set iifname map @zones"),
        "zone_out": ("type filter hook output priority -300; policy accept;", "ct zone set oifname map @zones"),
        "input": (
            "type filter hook input priority -10; policy accept;",
            "iifname @bridges jump guest_to_host",
            *_only_here(settings.tunnel_address),
        ),
        "guest_to_host": _guest_to_host(settings.open_tcp_ports),
        "forward": ("type filter hook forward priority -10; policy accept;", *_forward(settings)),
        "tunnel_in": (
            "type filter hook prerouting priority -300; policy accept;",
            *_untracked(settings.tunnel_address, "iifname", "daddr"),
        ),
        "tunnel_out": (
            "type filter hook output priority -300; policy accept;",
            *_untracked(settings.tunnel_address, "oifname", "saddr"),
        ),
    }
    if native:
        return chains
    return chains | {
        "mark_in": ("type filter hook prerouting priority -150; policy accept;", "iifname @bridges jump known"),
        "mark_out": ("type filter hook output priority -150; policy accept;", "oifname @bridges jump known"),
        "known": (
            f"meta mark set meta mark & {_KEEP:#x}",
            f"ct state related meta mark set meta mark | {ESTABLISHED:#x}",
            f"ct state established ct direction reply meta mark set meta mark | {ESTABLISHED:#x}",
        ),
    }


def _only_here(tunnel_address: str | None) -> tuple[str, ...]:
    """The kernel's VXLAN listens on every address of the host; its own address is told by this rule alone."""
    return (f"udp dport {UDP_PORT} ip daddr != {address_of(tunnel_address)} drop",) if tunnel_address else ()


def _untracked(tunnel_address: str | None, interface: str, side: str) -> tuple[str, ...]:
    """What tunnels carry is tracked inside; as much again outside would only fill the table of connections."""
    if tunnel_address is None:
        return ()
    return (f"{interface} != @bridges ip {side} {address_of(tunnel_address)} udp dport {UDP_PORT} notrack",)


def _guest_to_host(open_tcp_ports: Sequence[int]) -> tuple[str, ...]:
    ports = ", ".join(str(int(port)) for port in sorted(set(open_tcp_ports)))
    return (
        "ct state established,related accept",
        "icmp type echo-request accept",
        "icmpv6 type echo-request accept",
        _ND_OUT,
        "meta nfproto ipv4 udp sport 68 udp dport 67 accept",
        "meta nfproto ipv6 udp sport 546 udp dport 547 accept",
        f"ip daddr {METADATA_IP} tcp dport 80 accept",
        *((f"tcp dport {{ {ports} }} accept",) if ports else ()),
        "drop",
    )


def _forward(settings: NetworkSettings) -> tuple[str, ...]:
    """Frames that br_netfilter shows to the inet hooks stay on one bridge; everything else would be routed."""
    if settings.guests_may_route:
        return ()
    return ("iifname . oifname @bridged accept", "iifname @bridges drop", "oifname @bridges drop")


def _table(family: str, sets: Sequence[str], chains: dict[str, tuple[str, ...]]) -> str:
    """One table: declare, empty the chains of an earlier run, fill them."""
    declared = "".join(f"\tchain {name} {{ {_hook(rules)}}}\n" for name, rules in chains.items())
    flushed = "".join(f"flush chain {family} {TABLE} {name}\n" for name in chains)
    filled = "".join(_chain(name, rules) for name, rules in chains.items())
    head = "".join(f"\t{line}\n" for line in sets)
    return f"table {family} {TABLE} {{\n{head}{declared}}}\n{flushed}table {family} {TABLE} {{\n{filled}}}\n"


def _hook(rules: Sequence[str]) -> str:
    return f"{rules[0]} " if rules[0].startswith("type ") else ""


def _chain(name: str, rules: Sequence[str]) -> str:
    body = "".join(f"\t\t{rule}\n" for rule in rules if not rule.startswith("type "))
    return f"\tchain {name} {{\n{body}\t}}\n"

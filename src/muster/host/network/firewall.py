"""The host's firewall: keeps nftables at what ports and groups ask for, one atomic transaction per batch.

Invariants: a tap that is guarded but has no rules yet carries nothing; a batch's cost depends on the batch, not on the
ports already there; after somebody flushed nftables, the next batch or sweep brings everything back.
All methods block and belong to one thread (see `nft`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set

from muster.base.errors import Exhausted, Unsupported
from muster.base.log import get_logger
from muster.domain.specs import NetworkSpec, PortSpec, SecurityGroupSpec
from muster.host.names import bridge_name, tap_name, tunnel_of
from muster.host.network.checks import hex_of, uuid_of
from muster.host.network.dnsmasq_config import served_subnets
from muster.host.network.elements import Elements, PortRules, guard_elements, port_rules, quoted
from muster.host.network.links import bridge_mac
from muster.host.network.nft import Nftables, NftFailed
from muster.host.network.rules import group_rules, member_elements, member_sets, remote_groups
from muster.host.network.ruleset import TABLE, base_text, established_rules
from muster.host.network.settings import Conntrack, NetworkSettings
from muster.host.network.transaction import BRIDGE_SETS, TUNNEL_SETS, Mirror, Transaction

_FIRST_ZONE, _LAST_ZONE = 4096, 65_535
_PROBE = "muster_probe"
_SIGNS = (("bridge", "spoof"), ("inet", "input"))  # chains that have rules as long as nobody flushed them


class Firewall:
    """Rules of one host. `nft` None makes its own on first use, in the thread and namespace of that use."""

    def __init__(self, settings: NetworkSettings, nft: Nftables | None = None) -> None:
        self._settings = settings
        self._nft = nft
        self._conntrack = settings.conntrack
        self._mirror = Mirror()
        self._loaded = False
        self._ports: dict[str, PortSpec] = {}
        self._groups: dict[str, SecurityGroupSpec] = {}
        self._members: dict[str, dict[str, frozenset[str]]] = {}  # group -> its members as elements of its sets
        self._rendered: dict[str, tuple[str, ...]] = {}
        self._served: dict[str, dict[str, int]] = {}  # network -> its subnets whose DHCP this host serves, IP versions
        # What was learned and has not been said to nftables yet: it stays due until a transaction with it was taken.
        self._due_groups: dict[str, None] = {}
        self._due_networks: set[str] = set()
        self._zones: dict[str, int] = {}
        self._newest_zone = _FIRST_ZONE - 1
        self._log = get_logger(__name__)

    def guard(self, networks: Sequence[NetworkSpec], ports: Sequence[PortSpec]) -> None:
        """Networks have their zone; ports not known before have their rules if their groups are known, else their taps
        may do nothing until `apply`.

        Raises Invalid, NftFailed, Exhausted (no zone left). One transaction, none when nothing is new. Cost grows with
        the ports of a network only when it is another DHCP that is served there.
        """
        self._start()
        bridges = self._take_zones([*(network.id for network in networks), *(port.network_id for port in ports)])
        due = self._due_networks = self._due_networks | self._learn_networks(networks)
        theirs = [port for port in self._ports.values() if uuid_of(port.network_id) in due] if due else []
        ready: list[PortSpec] = []
        guarded: dict[str, Elements] = {}
        for port in ports:
            tap = tap_name(uuid_of(port.id))
            if uuid_of(port.id) in self._ports or self._mirror.has(tap):
                continue
            groups = {uuid_of(group_id) for group_id in port.security_group_ids}
            if port.port_security_enabled and groups <= self._groups.keys():
                ready.append(port)
            else:
                guarded[tap] = guard_elements(port, self._port_zone(port))
        rules = [self._port_rules(port) for port in (*theirs, *ready)]

        def plan(transaction: Transaction) -> None:
            self._plan_networks(transaction, bridges)
            for tap, elements in guarded.items():
                self._mirror.put(transaction, tap, elements)
            for port in rules:
                self._plan_port(transaction, port)

        self._transact(plan)
        self._due_networks = set()
        self._ports.update((uuid_of(port.id), port) for port in ready)

    def apply(self, ports: Sequence[PortSpec], groups: Sequence[SecurityGroupSpec]) -> None:
        """These ports have their rules; groups that are not as they are known are rewritten. One transaction.

        Raises Invalid (nothing changes), NftFailed.
        """
        self._start()
        bridges = self._take_zones(port.network_id for port in ports)
        rules = [self._port_rules(port) for port in ports]
        self._due_groups |= dict.fromkeys(self._learn(groups))
        self._ports.update((uuid_of(port.id), port) for port in ports)

        def plan(transaction: Transaction) -> None:
            self._plan_networks(transaction, bridges)
            for port in rules:
                self._plan_port(transaction, port)
            for group_id in self._due_groups:
                self._plan_group(transaction, group_id, again=True)
                self._plan_members(transaction, group_id, declare=False)

        self._transact(plan)
        self._due_groups = {}

    def remove(self, port_ids: Sequence[str]) -> None:
        """Nothing stands for these ports any more. One transaction. Raises Invalid, NftFailed."""
        self._start()
        names = {uuid_of(port_id) for port_id in port_ids}
        for port_id in names:
            self._ports.pop(port_id, None)

        def plan(transaction: Transaction) -> None:
            for port_id in names:
                self._plan_removal(transaction, tap_name(port_id), f"pr_{hex_of(port_id)}")

        self._transact(plan)

    def check(self) -> None:
        """What somebody has flushed stands again: without rules, guests' taps are open. Raises NftFailed.

        Two looks at one chain each when all is well.
        """
        if not self._loaded:
            return
        nft = self._engine()
        if not all(nft.has_rules(family, TABLE, chain) for family, chain in _SIGNS):
            self._restore("the tables are gone, or empty", lambda _: None)

    def keep(self, networks: Sequence[NetworkSpec], ports: Sequence[PortSpec]) -> None:
        """Read what stands, bring these ports' rules in order and remove everything that is not theirs.

        Raises Invalid, NftFailed. Costs a listing of the tables and one transaction; for sweeps, not for batches.
        """
        self._start()
        self._load()
        wanted = {bridge_name(uuid_of(network.id)) for network in networks}
        self._served = {}
        self._learn_networks(networks)
        self._zones = {bridge: zone for bridge, zone in self._zones.items() if bridge in wanted}
        bridges = self._take_zones(network.id for network in networks) | self._mirror.owners(BRIDGE_SETS)
        rules = [self._port_rules(port) for port in ports]
        self._ports = {uuid_of(port.id): port for port in ports}
        self._forget_other_groups({group_id for port in rules for group_id in port.group_ids})

        def plan(transaction: Transaction) -> None:
            self._plan_networks(transaction, bridges)
            for port in rules:
                self._plan_port(transaction, port)
            tunnels = {tunnel_of(bridge) for bridge in bridges}
            for tap in self._mirror.taps() - {port.tap for port in rules} - tunnels:
                self._mirror.put(transaction, tap, {})
            self._plan_collection(transaction, rules)

        self._transact(plan)

    def teardown(self) -> bool:
        """Both tables are gone; whether one was there. Raises NftFailed."""
        nft, families = self._engine(), ("bridge", "inet")
        stood = any(nft.table(family, TABLE) is not None for family in families)
        for family in families:
            nft.run(f"add table {family} {TABLE}\ndelete table {family} {TABLE}\n")
        self._mirror = Mirror()
        self._loaded = False
        self._ports, self._zones, self._rendered, self._served = {}, {}, {}, {}
        return stood

    def close(self) -> None:
        """Give libnftables' context back; the rules stay."""
        if self._nft is not None:
            self._nft.close()
            self._nft = None

    def _engine(self) -> Nftables:
        if self._nft is None:
            self._nft = Nftables()
        return self._nft

    def _start(self) -> None:
        """Before the first use: choose the variant, put up the base rules, read what an earlier process left."""
        if self._loaded:
            return
        if self._conntrack is Conntrack.AUTO:
            self._conntrack = choose_conntrack(self._engine())
            self._log.info("firewall", action="host.firewall.variant", conntrack=self._conntrack.value)
        self._load()
        self._loaded = True

    def _load(self) -> None:
        """Base rules stand as this version has them; the mirror shows the kernel's state."""
        nft = self._engine()
        nft.run(base_text(self._conntrack, self._settings))
        self._mirror.load(nft.table("bridge", TABLE) or [], nft.table("inet", TABLE) or [])
        for element in (e for bridge in self._mirror.owners(["zones"]) for e in self._mirror.of("zones", bridge)):
            bridge, zone = element.split(" : ")
            self._zones.setdefault(bridge.strip('"'), int(zone))
        self._newest_zone = max(self._newest_zone, *self._zones.values(), _FIRST_ZONE - 1)
        # A chain that vanished has to be written again, whatever was rendered once.
        self._rendered = {name: rules for name, rules in self._rendered.items() if name in self._mirror.chains}

    def _transact(self, plan: Callable[[Transaction], None]) -> None:
        """Run a plan; should the kernel's state have changed behind our back, read it and run everything known."""
        transaction = Transaction()
        plan(transaction)
        text = transaction.text()
        if not text:
            return
        try:
            self._engine().run(text)
        except NftFailed as failure:
            self._restore(failure.message, plan)
        else:
            self._commit(transaction)

    def _restore(self, reason: str, plan: Callable[[Transaction], None]) -> None:
        """Read what stands, and say everything that is known again, with a plan on top."""
        self._log.error(
            "firewall rules were changed by others and are restored", action="host.firewall.reload", reason=reason
        )
        self._load()
        transaction = Transaction()
        self._plan_networks(transaction, self._zones)
        for port in self._ports.values():
            self._plan_port(transaction, self._port_rules(port))
        plan(transaction)
        if text := transaction.text():
            self._engine().run(text)
        self._commit(transaction)

    def _commit(self, transaction: Transaction) -> None:
        self._mirror.commit(transaction)
        self._rendered |= transaction.chains

    def _learn(self, groups: Sequence[SecurityGroupSpec]) -> list[str]:
        """Keep groups as they are given; the ids of those that changed. Checks before it keeps anything.

        Generations are the agent's affair: they fall where the database was set back.
        """
        changed, members = {}, {}
        for group in groups:
            if group != self._groups.get(uuid_of(group.id)):
                members[uuid_of(group.id)] = member_elements(group.id, group.members)
                remote_groups(group)
                changed[uuid_of(group.id)] = group
        self._groups |= changed
        self._members |= members
        return list(changed)

    def _forget_other_groups(self, used: Set[str]) -> None:
        """Keep these groups and those that their rules name; whoever needs another one brings it along."""
        used = used | {remote for id_ in used & self._groups.keys() for remote in remote_groups(self._groups[id_])}
        self._groups = {group_id: group for group_id, group in self._groups.items() if group_id in used}
        self._due_groups = {group_id: None for group_id in self._due_groups if group_id in used}
        self._members = {group_id: members for group_id, members in self._members.items() if group_id in used}

    def _plan_port(self, transaction: Transaction, port: PortRules) -> None:
        if port.profile is not None and f"e_{port.profile}" not in self._mirror.chains:
            self._plan_profile(transaction, port.profile, port.group_ids)
        if port.pair_chain is not None:
            transaction.chains[port.pair_chain] = (*port.pair_rules, "counter drop")
        else:
            for element in self._mirror.of("pairs", port.tap):
                transaction.dropped_chains[element.split("goto ")[1]] = None
        self._mirror.put(transaction, port.tap, port.elements)

    def _plan_removal(self, transaction: Transaction, tap: str, pair_chain: str) -> None:
        self._mirror.put(transaction, tap, {})
        if pair_chain in self._mirror.chains:
            transaction.dropped_chains[pair_chain] = None

    def _plan_profile(self, transaction: Transaction, profile: str, group_ids: Sequence[str]) -> None:
        """Chains of a combination of groups: each group's rules in turn, then nothing more is let through."""
        for group_id in group_ids:
            self._plan_group(transaction, group_id)
        for way in ("e", "i"):
            jumps = tuple(f"jump g{way}_{hex_of(group_id)}" for group_id in group_ids)
            transaction.chains[f"{way}_{profile}"] = (*jumps, "drop")

    def _plan_group(self, transaction: Transaction, group_id: str, *, again: bool = False) -> None:
        """Chains of a group. A group that is not known yet gets empty ones; `again` rewrites only what stands."""
        name = hex_of(group_id)
        stands = f"ge_{name}" in self._mirror.chains
        if stands != again or f"ge_{name}" in transaction.chains:
            return
        group = self._groups.get(group_id)
        for way, direction in (("e", "egress"), ("i", "ingress")):
            rules = self._rules(group, direction)
            if not (stands and self._rendered.get(f"g{way}_{name}") == rules):
                transaction.chains[f"g{way}_{name}"] = rules
        for remote in remote_groups(group) if group else ():
            self._plan_members(transaction, remote, declare=True)

    def _rules(self, group: SecurityGroupSpec | None, direction: str) -> tuple[str, ...]:
        if group is None:
            return ()
        rules, left_out = group_rules(group, direction)
        for rule_id in left_out:
            self._log.warning("firewall", action="host.firewall.rule_left_out", group=group.id, rule=rule_id)
        return (*(established_rules(self._conntrack) if group.stateful else ()), *rules)

    def _plan_members(self, transaction: Transaction, group_id: str, *, declare: bool) -> None:
        """The address sets of a remote group; `declare` makes those that are missing."""
        known = self._members.get(group_id)
        wanted = known or member_elements(group_id, ())
        for name, declared in member_sets(group_id).items():
            if name not in self._mirror.member_sets:
                if not declare and name not in transaction.sets:
                    continue
                transaction.sets[name] = declared
            elif known is None:
                continue  # what an earlier process put there stays until the group is known
            have = self._mirror.of(name)
            if name.startswith("r") and have and have != wanted[name]:
                transaction.flushed.add(name)  # ranges: nft takes no overlap with what is being deleted
                transaction.added[name] = set(wanted[name])
            else:
                transaction.change(name, have, wanted[name])
        transaction.added = {name: new for name, new in transaction.added.items() if new}

    def _plan_networks(self, transaction: Transaction, bridges: Iterable[str]) -> None:
        for bridge in bridges:
            elements: Mapping[str, frozenset[str]] = {}
            if bridge in self._zones:
                elements = {
                    "bridges": frozenset({quoted(bridge)}),
                    "bridged": frozenset({f"{quoted(bridge)} . {quoted(bridge)}"}),
                    "zones": frozenset({f"{quoted(bridge)} : {self._zones[bridge]}"}),
                }
            self._mirror.put(transaction, bridge, elements, BRIDGE_SETS)
            self._plan_tunnel(transaction, tunnel_of(bridge), self._zones.get(bridge))

    def _plan_tunnel(self, transaction: Transaction, tunnel: str, zone: int | None) -> None:
        """A network's tunnel is known for one before it is there. `zone` None: it shall be known no more."""
        elements: dict[str, frozenset[str]] = {}
        if zone is not None:
            elements["tunnels"] = frozenset({quoted(tunnel)})
            if self._conntrack is Conntrack.BRIDGE:
                elements["port_zones"] = frozenset({f"{quoted(tunnel)} : {zone}"})
        self._mirror.put(transaction, tunnel, elements, TUNNEL_SETS)

    def _plan_collection(self, transaction: Transaction, rules: Sequence[PortRules]) -> None:
        """Drop chains and sets that no port uses any more."""
        used = {f"{way}_{port.profile}" for port in rules for way in ("e", "i") if port.profile}
        groups = {group_id for port in rules for group_id in port.group_ids}
        used |= {f"g{way}_{hex_of(group_id)}" for group_id in groups for way in ("e", "i")}
        used |= {port.pair_chain for port in rules if port.pair_chain}
        # Chains that others jump to come last.
        for name in sorted(self._mirror.chains - used, key=lambda chain: (chain.startswith("g"), chain)):
            transaction.dropped_chains[name] = None
        if groups <= self._groups.keys():
            remotes = {remote for group_id in groups for remote in remote_groups(self._groups[group_id])}
            kept = {name for remote in remotes for name in member_sets(remote)}
            transaction.dropped_sets |= dict.fromkeys(sorted(self._mirror.member_sets - kept))

    def _learn_networks(self, networks: Iterable[NetworkSpec]) -> set[str]:
        """Keep what DHCP serves in these networks; those that are known with something else."""
        served = {uuid_of(network.id): served_subnets(network) for network in networks}
        changed = {key for key, subnets in served.items() if self._served.get(key, subnets) != subnets}
        self._served |= served
        return changed

    def _port_rules(self, port: PortSpec) -> PortRules:
        network_id = uuid_of(port.network_id)
        subnets = self._served.get(network_id, {})
        versions = {subnets[fixed.subnet_id] for fixed in port.fixed_ips if fixed.subnet_id in subnets}
        return port_rules(port, self._port_zone(port), dict.fromkeys(versions, bridge_mac(network_id)))

    def _port_zone(self, port: PortSpec) -> int | None:
        native = self._conntrack is Conntrack.BRIDGE
        return self._zones[bridge_name(uuid_of(port.network_id))] if native else None

    def _take_zones(self, network_ids: Iterable[str]) -> set[str]:
        """A connection tracking zone per network; the next after the newest, so that zones rest before reuse.

        Returns the networks' bridges.
        """
        bridges = {bridge_name(uuid_of(network_id)) for network_id in network_ids}
        if new := sorted(bridges - self._zones.keys()):
            taken = set(self._zones.values())
            order = (*range(self._newest_zone + 1, _LAST_ZONE + 1), *range(_FIRST_ZONE, self._newest_zone + 1))
            free = [zone for zone in order if zone not in taken][: len(new)]
            if len(free) < len(new):
                raise Exhausted("this host has no connection tracking zone left for another network")
            self._zones.update(zip(new, free, strict=True))
            self._newest_zone = free[-1]
        return bridges


def choose_conntrack(nft: Nftables) -> Conntrack:
    """The bridge family's own tracking where the kernel has it, else br_netfilter. Raises Unsupported."""
    chain = "chain c { type filter hook prerouting priority 0; policy accept; ct state new accept; }"
    if nft.works(f"table bridge {_PROBE} {{ {chain} }}\n"):
        return Conntrack.BRIDGE
    # br_netfilter shows itself by its switches, which are per namespace.
    if not _has_br_netfilter():
        raise Unsupported(
            "the kernel can track bridged connections neither by itself (NF_CONNTRACK_BRIDGE) nor through"
            " br_netfilter; load one of them: modprobe nf_conntrack_bridge, or modprobe br_netfilter"
        )
    return Conntrack.BR_NETFILTER


def _has_br_netfilter() -> bool:
    try:
        with open("/proc/sys/net/bridge/bridge-nf-call-iptables", encoding="ascii"):
            return True
    except OSError:
        return False

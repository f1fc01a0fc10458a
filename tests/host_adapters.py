"""Adapters for tests of what stands on top of them: they keep state in memory, write down what they are asked, and
fail as told. What they check is the promise that the agent gives: a guest starts only when its network is ready.
"""

from collections.abc import Callable, Mapping, Sequence

from muster.base.errors import Invalid
from muster.domain.specs import NetworkSpec, SecurityGroupSpec, ServerSpec
from muster.host.hypervisor.sim import SimHypervisor
from muster.host.ports import Guest, Outcome, PlumbedPort, Stranger

# Called with the name of a step and the ids it concerns; raises what the step is to raise.
Misfortune = Callable[[str, Sequence[str]], None]


class Journal:
    """What was called, in order: (step, ids of servers, ports or groups)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[str, ...]]] = []
        self.misfortune: Misfortune | None = None

    def note(self, step: str, ids: Sequence[str]) -> None:
        """Write a call down; raises what is to go wrong with it."""
        self.calls.append((step, tuple(ids)))
        if self.misfortune is not None:
            self.misfortune(step, ids)

    def steps(self) -> list[str]:
        """The names of the steps called."""
        return [step for step, _ in self.calls]


class MemoryPlumbing:
    """`Plumbing` as sets of port ids. A port of a network that it was not told of is refused, as on a real host."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.journal = journal or Journal()
        self.linked: set[str] = set()
        self.ruled: set[str] = set()
        self.served: set[str] = set()
        self.groups: dict[str, int] = {}
        self.networks: dict[str, int] = {}
        self.members: dict[str, tuple[int, frozenset[str]]] = {}  # of networks, with their generation
        self.in_use: Callable[[], set[str]] = set  # ids of the ports whose taps a guest has open
        self.torn: list[str] = []  # taps that were removed under a guest

    async def links(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None:
        self.journal.note("links", _servers(ports))
        self._learn(networks, ports)
        self.linked.update(_ids(ports))

    async def firewall(self, ports: Sequence[PlumbedPort], groups: Sequence[SecurityGroupSpec]) -> None:
        self.journal.note("firewall", _servers(ports) or [group.id for group in groups])
        self.groups.update((group.id, group.generation) for group in groups)
        if not self.linked.issuperset(_ids(ports)):
            raise Invalid("rules for a port that has no link")
        self.ruled.update(_ids(ports))

    async def dhcp(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None:
        self.journal.note("dhcp", _servers(ports))
        self._learn(networks, ports)
        self.served.update(_ids(ports))

    async def unplug(self, port_ids: Sequence[str]) -> None:
        self.journal.note("unplug", port_ids)
        self.torn += self.in_use() & set(port_ids)
        for ports in (self.linked, self.ruled, self.served):
            ports.difference_update(port_ids)

    async def sweep(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> bool:
        self.journal.note("sweep", _ids(ports))
        self.networks.clear()
        self.members.clear()
        self._keep(networks)
        left = self.linked & self.in_use() - set(_ids(ports))
        self.linked.intersection_update({*_ids(ports), *left})
        self.ruled.intersection_update(_ids(ports))
        self.served.intersection_update(_ids(ports))
        return not left

    async def close(self) -> None: ...

    def ready(self, server: ServerSpec) -> bool:
        """Links, rules and DHCP entries of all its ports stand."""
        ids = {port.id for port in server.ports}
        return ids <= self.linked and ids <= self.ruled and ids <= self.served

    def _learn(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None:
        self._keep(networks)
        if unknown := {port.port.network_id for port in ports} - self.networks.keys():
            raise Invalid(f"networks that are not known here: {sorted(unknown)}")

    def _keep(self, networks: Sequence[NetworkSpec]) -> None:
        self.networks.update((network.id, network.generation) for network in networks)
        self.members.update((one.id, (one.member_generation, frozenset(one.members))) for one in networks)


class RecordingHypervisor(SimHypervisor):
    """A simulated hypervisor that writes down what it is asked. `before_start` sees each server that is to start or to
    get other network cards."""

    journal: Journal
    before_start: Callable[[ServerSpec], None] | None = None
    before_replug: Callable[[ServerSpec], None] | None = None

    async def observe(self) -> Mapping[str, Guest]:
        self.journal.note("observe", ())
        return await super().observe()

    async def fetch(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        self.journal.note("fetch", [server.id for server in servers])
        return await super().fetch(servers)

    async def prepare(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        self.journal.note("image", [server.id for server in servers])
        return await super().prepare(servers)

    async def start(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        self.journal.note("start", [server.id for server in servers])
        if self.before_start is not None:
            for server in servers:
                self.before_start(server)
        return await super().start(servers)

    async def replug(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        self.journal.note("replug", [server.id for server in servers])
        if self.before_replug is not None:
            for server in servers:
                self.before_replug(server)
        return await super().replug(servers)

    async def stop(self, server_ids: Sequence[str], *, hard: bool) -> list[Outcome]:
        self.journal.note("stop-hard" if hard else "stop-soft", server_ids)
        return await super().stop(server_ids, hard=hard)

    async def remove(self, server_ids: Sequence[str]) -> list[Outcome]:
        self.journal.note("remove", server_ids)
        return await super().remove(server_ids)

    async def keep(self, strangers: Sequence[Stranger]) -> list[Outcome]:
        self.journal.note("keep", [stranger.server_id for stranger in strangers])
        return await super().keep(strangers)


def _ids(ports: Sequence[PlumbedPort]) -> list[str]:
    return [port.port.id for port in ports]


def _servers(ports: Sequence[PlumbedPort]) -> list[str]:
    return list(dict.fromkeys(port.server_id for port in ports))

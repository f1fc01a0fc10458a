"""What each step of a batch means to the adapters: which servers, ports, networks and groups they are called with.

Invariant: one call per step and batch, with all that the step needs, so that adapters keep nothing that matters.
"""

from collections.abc import Iterable, Mapping, Sequence, Set

from msgspec import Struct

from muster.domain.group_members import remotes_of
from muster.domain.specs import NetworkSpec, PortSpec, Power, SecurityGroupSpec, ServerSpec
from muster.host.desired import DesiredState
from muster.host.plan import Action, Step
from muster.host.ports import Hypervisor, Outcome, PlumbedPort, Plumbing, Stranger


class Item(Struct, frozen=True, kw_only=True):
    """One server of a batch, as it was wanted when the batch began. `standing` are the ids of ports that may stand.

    `runs`: there is a guest to be stopped. `spec` is None for what the host should not have and knows nothing of.
    """

    server_id: str
    action: Action
    spec: ServerSpec | None
    standing: frozenset[str] = frozenset()
    runs: bool = False
    hard: bool = True


class Changed(Struct, frozen=True, kw_only=True):
    """Networks and groups of the host that changed and go along with the next batch."""

    networks: tuple[NetworkSpec, ...] = ()
    groups: tuple[SecurityGroupSpec, ...] = ()

    def parts(self, step: Step) -> list["Changed"]:
        """What this step has to do something for, one by one."""
        match step:
            case Step.LINKS | Step.DHCP:
                return [Changed(networks=(network,)) for network in self.networks]
            case Step.FIREWALL:
                return [Changed(groups=(group,)) for group in self.groups]
            case _:
                return []


class Works:
    """Calls the adapters, step by step; see `Hypervisor` and `Plumbing` for what the calls promise and raise."""

    def __init__(self, hypervisor: Hypervisor, plumbing: Plumbing, desired: DesiredState) -> None:
        self._hypervisor = hypervisor
        self._plumbing = plumbing
        self._desired = desired

    async def do(self, step: Step, items: Sequence[Item], changed: Changed) -> Sequence[Outcome] | None:
        """Carry out a step for these servers; outcomes per server, or None where all are done or none."""
        match step:
            case Step.UNPLUG:
                await self._unplug(items)
            case Step.LINKS:
                # A guest that runs still has cards for the ports that it shall lose.
                await self._release([item for item in items if not item.runs])
                await self._plumbing.links(self._networks(items, changed), _ports(items))
            case Step.FIREWALL:
                await self._plumbing.firewall(_ports(items), self._groups(items, changed))
            case Step.DHCP:
                await self._plumbing.dhcp(self._networks(items, changed), _ports(items))
            case Step.RELEASE:
                await self._release(items)
            case _:
                return await self._do_to_guests(step, items)
        return None

    async def _do_to_guests(self, step: Step, items: Sequence[Item]) -> Sequence[Outcome] | None:
        match step:
            case Step.FETCH:
                return await self._hypervisor.fetch(_specs(items))
            case Step.STOP:
                return await self._stop(items)
            case Step.KEEP:
                return await self._hypervisor.keep([Stranger(item.server_id, item.spec) for item in items])
            case Step.DISCARD:
                return await self._hypervisor.remove([item.server_id for item in items])
            case Step.IMAGE:
                return await self._hypervisor.prepare(_specs(items))
            case Step.REPLUG:
                return await self._hypervisor.replug(_specs(items))
            case Step.START:
                return await self._hypervisor.start(_specs(items))
        return None

    def gives_lease(self, server: ServerSpec) -> bool:
        """Whether DHCP gives out an address of any of the server's ports."""
        subnets = [subnet for network in self._networks_of(server.ports) for subnet in network.subnets]
        giving = {subnet.id for subnet in subnets if subnet.gives_leases}
        return any(fixed.subnet_id in giving for port in server.ports for fixed in port.fixed_ips)

    async def sweep(self, servers: Iterable[ServerSpec]) -> bool:
        """These servers' networks and ports are all that should be; False if something could not go yet.

        Raises what `Plumbing.sweep` does.
        """
        ports = [_plumbed_port(server, port) for server in servers for port in server.ports]
        return await self._plumbing.sweep(self._networks_of(port.port for port in ports), ports)

    async def _stop(self, items: Sequence[Item]) -> Sequence[Outcome] | None:
        running = [item for item in items if item.runs]
        if not running:
            return None
        return await self._hypervisor.stop([item.server_id for item in running], hard=running[0].hard)

    async def _unplug(self, items: Sequence[Item]) -> None:
        """Unplug all ports that these servers have or had."""
        await self._unplug_ports({item.server_id: item.standing | _port_ids(item) for item in items})

    async def _release(self, items: Sequence[Item]) -> None:
        """Unplug ports that a server had and should have no more."""
        await self._unplug_ports({item.server_id: item.standing - _port_ids(item) for item in items if item.spec})

    async def _unplug_ports(self, of_servers: Mapping[str, Set[str]]) -> None:
        """Ports by the server that has done with them; one that has moved to another server of the host stays. Costs
        what is known, if there are any."""
        if not any(of_servers.values()):
            return
        specs = self._desired.servers.specs.values()
        owners = {port.id: spec.id for spec in specs if spec.power is not Power.ABSENT for port in spec.ports}
        gone = {id_ for server_id, ids in of_servers.items() for id_ in ids if owners.get(id_, server_id) == server_id}
        if gone:
            await self._plumbing.unplug(sorted(gone))

    def _networks(self, items: Sequence[Item], changed: Changed) -> list[NetworkSpec]:
        """Those of these servers and those that changed, as they are by now."""
        specs = self._desired.networks.specs
        networks = self._networks_of(port for item in items if item.spec for port in item.spec.ports)
        known = {network.id for network in networks}
        return networks + [specs.get(one.id, one) for one in changed.networks if one.id not in known]

    def _groups(self, items: Sequence[Item], changed: Changed) -> list[SecurityGroupSpec]:
        specs = self._desired.groups.specs
        ids = dict.fromkeys(group_id for port in _ports(items) for group_id in port.port.security_group_ids)
        ids |= dict.fromkeys(remote for id_ in ids if id_ in specs for remote in sorted(remotes_of(specs[id_])))
        newest = {group.id: specs.get(group.id, group) for group in changed.groups}
        return [*newest.values(), *(specs[id_] for id_ in ids if id_ in specs and id_ not in newest)]

    def _networks_of(self, ports: Iterable[PortSpec]) -> list[NetworkSpec]:
        specs = self._desired.networks.specs
        ids = dict.fromkeys(port.network_id for port in ports)
        return [specs[id_] for id_ in ids if id_ in specs]


def _port_ids(item: Item) -> frozenset[str]:
    return frozenset(port.id for port in item.spec.ports) if item.spec else frozenset()


def _specs(items: Sequence[Item]) -> list[ServerSpec]:
    return [item.spec for item in items if item.spec is not None]


def _ports(items: Sequence[Item]) -> list[PlumbedPort]:
    return [_plumbed_port(item.spec, port) for item in items if item.spec for port in item.spec.ports]


def _plumbed_port(server: ServerSpec, port: PortSpec) -> PlumbedPort:
    return PlumbedPort(server_id=server.id, hostname=server.hostname, port=port)

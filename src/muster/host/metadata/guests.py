"""What the metadata service knows of a host's guests, kept in step with what the host should have.

Invariants: a server is known before anything is done about it, so before its guest starts, and as long as it is
wanted, also where the guest was started by an earlier agent; a changed network is described as it is now.
"""

from collections.abc import Mapping, Sequence

from muster.domain.specs import NetworkSpec, Power, SecurityGroupSpec
from muster.host.desired import Changes, DesiredState
from muster.host.metadata.openstack import Description
from muster.host.metadata.service import MetadataService
from muster.host.ports import PlumbedPort, Plumbing


class GuestDescriptions:
    """The `Watcher` of a host whose guests are told who they are."""

    def __init__(self, service: MetadataService) -> None:
        self._service = service
        self._networks: Mapping[str, NetworkSpec] = {}

    def network_of(self, network_id: str) -> NetworkSpec | None:
        """A network, as far as this host knows it. May be asked from any thread."""
        return self._networks.get(network_id)

    def learn(self, desired: DesiredState, changes: Changes) -> None:
        """The desired state has taken in a message. Costs what changed."""
        self._networks = desired.networks.specs  # a view: networks that change later are seen through it
        specs = [desired.servers.specs[server_id] for server_id in changes.servers]
        wanted = [spec for spec in specs if spec.power is not Power.ABSENT]
        unwanted = [spec.id for spec in specs if spec.power is Power.ABSENT]
        self._service.remove_servers([*changes.gone, *unwanted])
        self._service.put_servers(Description(server=spec, networks=self._networks) for spec in wanted)


class PlumbingWithMetadata:
    """A `Plumbing` on whose bridges the metadata service listens before a guest can ask."""

    def __init__(self, plumbing: Plumbing, service: MetadataService) -> None:
        self._plumbing = plumbing
        self._service = service

    async def links(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None:
        """Raises also what `MetadataService.add_networks` does."""
        await self._plumbing.links(networks, ports)
        await self._service.add_networks(_ids(networks, ports))

    async def firewall(self, ports: Sequence[PlumbedPort], groups: Sequence[SecurityGroupSpec]) -> None:
        await self._plumbing.firewall(ports, groups)

    async def dhcp(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None:
        await self._plumbing.dhcp(networks, ports)

    async def unplug(self, port_ids: Sequence[str]) -> None:
        await self._plumbing.unplug(port_ids)

    async def sweep(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> bool:
        complete = await self._plumbing.sweep(networks, ports)
        await self._service.keep_networks(_ids(networks, ports))
        return complete

    async def close(self) -> None:
        await self._service.close()
        await self._plumbing.close()


def _ids(networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> list[str]:
    ids = dict.fromkeys(network.id for network in networks)
    return list(ids | dict.fromkeys(port.port.network_id for port in ports))

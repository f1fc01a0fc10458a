"""Whom the metadata service knows, as what a host should have changes."""

import asyncio
from collections.abc import Sequence

from msgspec.structs import replace
from tests.unit.host.agents import NETWORK, port, server

from muster.domain.messages import Desired
from muster.domain.specs import NetworkSpec, Power, SecurityGroupSpec
from muster.host.desired import DesiredState
from muster.host.metadata.guests import GuestDescriptions, PlumbingWithMetadata
from muster.host.metadata.openstack import Description
from muster.host.ports import PlumbedPort


class KnownServers:
    """Stands for the metadata service: what it was told, and where it listens."""

    def __init__(self) -> None:
        self.servers: dict[str, Description] = {}
        self.networks: list[str] = []

    def put_servers(self, servers) -> None:
        self.servers |= {described.server.id: described for described in servers}

    def remove_servers(self, server_ids) -> None:
        for server_id in server_ids:
            self.servers.pop(server_id, None)

    async def add_networks(self, network_ids: Sequence[str]) -> None:
        self.networks += [network_id for network_id in network_ids if network_id not in self.networks]

    async def keep_networks(self, network_ids: Sequence[str]) -> None:
        self.networks = [network_id for network_id in self.networks if network_id in network_ids]

    async def close(self) -> None:
        self.networks = []


class Story:
    def __init__(self) -> None:
        self.service = KnownServers()
        self.guests = GuestDescriptions(self.service)  # type: ignore[arg-type]
        self.desired = DesiredState()
        self.seq = 0

    def tell(self, *, everything: bool = False, **what) -> None:
        self.seq += 1
        message = Desired(
            host_id="h", from_seq=0 if everything else self.seq - 1, to_seq=self.seq, everything=everything, **what
        )
        self.guests.learn(self.desired, self.desired.apply(message))

    def known(self) -> set[str]:
        return set(self.service.servers)


def test_a_server_is_known_as_long_as_it_is_wanted() -> None:
    story = Story()
    story.tell(everything=True, servers=(server("a"), server("b", power=Power.STOPPED)), networks=(NETWORK,))
    assert story.known() == {"a", "b"}
    story.tell(servers=(server("a", 2, Power.ABSENT), server("c")))
    assert story.known() == {"b", "c"}
    story.tell(everything=True, servers=(server("c"),), networks=(NETWORK,))
    assert story.known() == {"c"}


def test_what_is_said_of_a_server_follows_its_changes_and_its_networks() -> None:
    story = Story()
    story.tell(everything=True, servers=(server("a"),), networks=(NETWORK,))
    story.tell(servers=(server("a", 2, metadata={"k": "v"}),))
    assert story.service.servers["a"].server.metadata == {"k": "v"}
    story.tell(networks=(replace(NETWORK, generation=2, mtu=1_400),))
    assert story.service.servers["a"].networks["net"].mtu == 1_400
    found = story.guests.network_of("net")
    assert found is not None
    assert found.mtu == 1_400
    assert story.guests.network_of("other") is None


class Steps:
    """A plumbing that notes what was done, and where the service listened then."""

    def __init__(self, service: KnownServers) -> None:
        self.service = service
        self.done: list[tuple[str, list[str]]] = []

    def note(self, step: str) -> None:
        self.done.append((step, list(self.service.networks)))

    async def links(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None:
        self.note("links")

    async def firewall(self, ports: Sequence[PlumbedPort], groups: Sequence[SecurityGroupSpec]) -> None:
        self.note("firewall")

    async def dhcp(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None:
        self.note("dhcp")

    async def unplug(self, port_ids: Sequence[str]) -> None:
        self.note("unplug")

    async def sweep(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> bool:
        self.note("sweep")
        return False

    async def close(self) -> None:
        self.note("close")


def test_the_service_listens_on_a_bridge_once_it_is_there_and_until_it_goes() -> None:
    service = KnownServers()
    steps = Steps(service)
    plumbing = PlumbingWithMetadata(steps, service)  # type: ignore[arg-type]
    ports = [PlumbedPort("a", "a", port("p"))]

    async def story() -> None:
        await plumbing.links([], ports)
        await plumbing.firewall(ports, [])
        await plumbing.dhcp([], ports)
        await plumbing.unplug(["p"])
        assert await plumbing.sweep([NETWORK], []) is False
        assert service.networks == ["net"]
        assert await plumbing.sweep([], []) is False
        assert service.networks == []
        await plumbing.close()

    asyncio.run(story())
    listened = dict(steps.done[:5])
    assert listened == {"links": [], "firewall": ["net"], "dhcp": ["net"], "unplug": ["net"], "sweep": ["net"]}
    assert [step for step, _ in steps.done[5:]] == ["sweep", "close"]

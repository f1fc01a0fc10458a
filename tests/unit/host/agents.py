"""One agent over fakes under virtual time, with a bus whose other end the test holds."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from tests.host_adapters import Journal, MemoryPlumbing, RecordingHypervisor

from muster.base import virtual_time
from muster.bus.memory import MemoryBus
from muster.domain.messages import (
    CONTROL_TOPIC,
    Desired,
    Hello,
    Message,
    Report,
    Strangers,
    decode,
    encode,
    host_topic,
)
from muster.domain.reports import ServerReport
from muster.domain.specs import FixedIp, NetworkSpec, PortSpec, Power, SecurityGroupSpec, ServerSpec, SubnetSpec
from muster.host.agent import AgentSettings, HostAgent, HostIdentity, HostParts
from muster.host.boot_settings import BootSettings
from muster.host.group import HostGroup
from muster.host.hypervisor.sim import SimSettings
from muster.host.image_tickets import ImageTickets
from muster.host.memory_guard import Guarding
from muster.host.power_failure import PowerFailure

HOST = "host-1"
START_S = 1e9
SUBNET = SubnetSpec(id="sub", ip_version=4, cidr="10.0.0.0/16", dhcp_address="10.0.0.1")
NETWORK = NetworkSpec(id="net", generation=1, segment_id=7, subnets=(SUBNET,))
GROUP = SecurityGroupSpec(id="group", generation=1)


def port(port_id: str) -> PortSpec:
    return PortSpec(
        id=port_id,
        network_id="net",
        mac_address=f"FA:16:3E:{port_id}",
        fixed_ips=(FixedIp("sub", "10.0.0.2"),),
        security_group_ids=("group",),
    )


def server(id_: str, generation: int = 1, power: Power = Power.RUNNING, **values: object) -> ServerSpec:
    values.setdefault("ports", (port(f"{id_}-port"),))
    return ServerSpec(
        id=id_, generation=generation, project_id="p", user_id="u", name=id_, hostname=id_, power=power, **values
    )


class World:
    """See the module. `story` runs with the agent started; `everything` has been sent unless asked not to be."""

    def __init__(self, sim: SimSettings | None = None, boots: BootSettings | None = None, **settings: float) -> None:
        self.bus = MemoryBus()
        self.journal = Journal()
        self.plumbing = MemoryPlumbing(self.journal)
        self.hypervisor = RecordingHypervisor(Random(1), sim, self.now)
        self.hypervisor.journal = self.journal
        self.boots = boots
        self.guarding: Guarding | None = None
        self.settings = AgentSettings(**settings)
        self.seq = 0
        self.heard: list[Message] = []
        self.group: HostGroup
        self.agents_made = 0
        self.tickets = ImageTickets()
        self.power = PowerFailure()
        self.host_ip = "127.0.0.1"

    def now(self) -> float:
        return START_S + asyncio.get_running_loop().time()

    @property
    def agent(self) -> HostAgent:
        return self.group.agents[HOST]

    async def start_agent(self) -> None:
        self.agents_made += 1
        self.group = HostGroup(self.bus, settings=self.settings, clock=self.now, rng=Random(self.agents_made))
        parts = HostParts(
            identity=HostIdentity(host_id=HOST, hostname="compute-1", hypervisor_type="sim", host_ip=self.host_ip),
            hypervisor=self.hypervisor,
            plumbing=self.plumbing,
            leases=self.hypervisor.leases(),
            boots=self.boots,
            guarding=self.guarding,
            pressure=lambda: None,
            tickets=self.tickets,
            power=self.power,
        )
        await self.group.start([parts])

    async def tell(self, *servers: ServerSpec, everything: bool = False, **values: object) -> None:
        """Send the next Desired, and let the agent work for a moment."""
        await self.send(self.desired(*servers, everything=everything, **values))

    def desired(self, *servers: ServerSpec, everything: bool = False, **values: object) -> Desired:
        """The next Desired."""
        from_seq, self.seq = self.seq, self.seq + (0 if everything else 1)
        values = {"networks": (NETWORK,), "groups": (GROUP,), "from_seq": from_seq, "to_seq": self.seq} | values
        return Desired(host_id=HOST, sent_at=self.now(), servers=servers, everything=everything, **values)

    async def send(self, message: Message) -> None:
        await self.bus.publish([(host_topic(HOST), encode(message))])
        await asyncio.sleep(0.001)

    async def hear(self) -> list[Message]:
        """All that the agent has said since the last call."""
        await asyncio.sleep(0.001)
        subscription = await self.bus.subscribe(CONTROL_TOPIC)
        heard: list[Message] = []
        if self.bus._topics[CONTROL_TOPIC].messages:
            heard = [decode(body) for body in await subscription.next_batch()]
        await subscription.close()
        self.heard += heard
        return heard

    async def reports(self) -> list[Report]:
        return [message for message in await self.hear() if isinstance(message, Report)]

    async def states(self) -> dict[str, ServerReport]:
        """The newest report of each server among what was said since the last call."""
        return {report.server_id: report for message in await self.reports() for report in message.servers}

    async def strangers(self) -> list[str]:
        """Those of whose fates it has asked since the last call."""
        return [id_ for message in await self.hear() if isinstance(message, Strangers) for id_ in message.server_ids]

    async def hellos(self) -> list[Hello]:
        return [message for message in await self.hear() if isinstance(message, Hello)]

    def run(self, story: Callable[[], Awaitable[None]], *, told: bool = True) -> None:
        async def main() -> None:
            await self.start_agent()
            if told:
                await self.tell(everything=True)
                await self.hear()
                self.journal.calls.clear()
            await story()
            await self.group.close()

        virtual_time.run(main())

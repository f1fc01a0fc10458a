"""All hosts of one process: any number of simulated ones, or the one that this machine is.

Invariant: what is per process is not per host: one timer, one publisher, one heartbeat for all; an idle host costs a
look at its hypervisor once a minute and nothing else.
"""

import asyncio
from collections.abc import Sequence
from random import Random

from muster.base.clock import Clock, system_clock
from muster.base.errors import Conflict, Transient
from muster.base.log import get_logger
from muster.bus.protocol import Bus
from muster.domain.messages import CONTROL_TOPIC, Heartbeat
from muster.host.agenda import Agenda
from muster.host.agent import AgentSettings, HostAgent, HostParts, Process
from muster.host.reporter import Courier

_STARTS_AT_ONCE = 100
_RETRY_MAX_S = 30.0


class HostGroup:
    """Agents that share a process. Made and used on one event loop."""

    def __init__(
        self,
        bus: Bus,
        *,
        settings: AgentSettings | None = None,
        clock: Clock = system_clock,
        rng: Random | None = None,
    ) -> None:
        self._process = Process(
            bus=bus,
            courier=Courier(bus),
            agenda=Agenda(),
            clock=clock,
            rng=rng or Random(),  # noqa: S311  # jitter and numbers of messages
            settings=settings or AgentSettings(),
        )
        self._agents: dict[str, HostAgent] = {}
        self._beat()

    @property
    def agents(self) -> dict[str, HostAgent]:
        """The agents by host id."""
        return dict(self._agents)

    async def start(self, hosts: Sequence[HostParts]) -> None:
        """Start agents for these hosts, and wait until each listens; waits on for a bus or hypervisor that is away.

        Raises Conflict when a host is here already.
        """
        ids = [parts.identity.host_id for parts in hosts]
        if len(set(ids)) < len(ids) or self._agents.keys() & set(ids):
            raise Conflict("a host can have one agent only")
        agents = [HostAgent(parts, self._process) for parts in hosts]
        self._agents.update(zip(ids, agents, strict=True))
        for first in range(0, len(agents), _STARTS_AT_ONCE):
            await asyncio.gather(*(_start(agent) for agent in agents[first : first + _STARTS_AT_ONCE]))

    async def welcomed(self) -> None:
        """Wait until the control plane knows all hosts that are here, and may place servers there."""
        await asyncio.gather(*(agent.welcomed.wait() for agent in self._agents.values()))

    async def stop(self, host_id: str) -> None:
        """Close one host's agent; guests go on. No such host: nothing happens."""
        agent = self._agents.pop(host_id, None)
        if agent is not None:
            await agent.close()

    async def close(self) -> None:
        """Close all agents, send what is left to say, and leave the bus to its owner."""
        agents, self._agents = list(self._agents.values()), {}
        results = await asyncio.gather(*(agent.close() for agent in agents), return_exceptions=True)
        for error in filter(None, results):
            get_logger(__name__).warning("host not closed", action="host.close", error=repr(error))
        self._process.agenda.close()
        try:
            async with asyncio.timeout(self._process.settings.close_grace_s):
                await self._process.courier.flush()
        except TimeoutError:
            await self._process.courier.close()

    def _beat(self) -> None:
        """One message says for all hosts that they are alive, and how far they are."""
        beats = tuple(beat for agent in self._agents.values() if (beat := agent.beat) is not None)
        if beats:
            heartbeat = Heartbeat(beats=beats, sent_at=self._process.clock())
            self._process.courier.send("heartbeat", CONTROL_TOPIC, heartbeat)
        self._process.agenda.after(self._process.settings.heartbeat_every_s, self._beat)


async def _start(agent: HostAgent) -> None:
    delay_s = 0.0
    while True:
        try:
            return await agent.start()
        except Transient as error:
            delay_s = min(_RETRY_MAX_S, max(error.retry_after_s, 2 * delay_s))
            get_logger(__name__).warning("host waits to start", action="host.start", error=str(error))
            await asyncio.sleep(delay_s)

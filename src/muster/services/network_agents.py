"""Agents and availability zones, derived from the hosts."""

from muster.base.clock import Clock
from muster.domain.agents import Agent, agents_of
from muster.domain.network_errors import network_error
from muster.store import network_agents as store
from muster.store.engine import Database


class NetworkAgents:
    """What can be asked of agents and zones."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def all(self) -> list[Agent]:
        """All agents, by host. One query."""
        async with self._database.read() as connection:
            hosts = await store.read_hosts(connection)
        now = self._clock()
        return [agent for host in hosts for agent in agents_of(host, now)]

    async def get(self, agent_id: str) -> Agent:
        """One agent. Raises NotFound. One query that reads all hosts."""
        for agent in await self.all():
            if agent.id == agent_id:
                return agent
        raise network_error("AgentNotFound", id=agent_id)

    async def zones(self) -> list[str]:
        """The availability zones that have a host, sorted. One query."""
        async with self._database.read() as connection:
            return await store.read_zones(connection)

"""Agents and availability zones over HTTP; they are what the hosts are, so nothing of them can be set."""

from datetime import UTC, datetime
from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.network.listing import FLAG, TEXT, Listing, chosen, list_response, page_of, read_query
from muster.domain.agents import Agent
from muster.domain.network_errors import bad_request
from muster.services.network_agents import NetworkAgents

AGENTS = Listing(
    collection="agents",
    filters={
        "id": TEXT,
        "agent_type": TEXT,
        "binary": TEXT,
        "host": TEXT,
        "topic": TEXT,
        "alive": FLAG,
        "admin_state_up": FLAG,
        "availability_zone": TEXT,
    },
    sorts={"id": "id", "host": "host", "agent_type": "agent_type", "binary": "binary"},
    has_tags=False,
)
ZONES = Listing(
    collection="availability_zones",
    filters={"name": TEXT, "resource": TEXT, "state": TEXT},
    sorts={"name": "name"},
    has_tags=False,
    key="name",
)


class Agents:
    """Handlers."""

    def __init__(self, service: NetworkAgents) -> None:
        self._service = service

    async def list(self, request: Request) -> Response:
        query = read_query(request, AGENTS)
        # Others than admins see none, as in Neutron, whose policy hides single agents and not the list.
        views = [view(agent) for agent in await self._service.all()] if request.context.is_admin else []
        return list_response(request, AGENTS, query, page_of(AGENTS, query, views))

    async def show(self, request: Request) -> Response:
        agent = await self._service.get(request.parameters["agent_id"])
        return Response({"agent": chosen(request, view(agent))})

    async def refuse(self, request: Request) -> Response:
        """Agents come and go with their hosts."""
        raise bad_request("Agents are derived from hosts and cannot be changed here; see the compute services")

    async def zones(self, request: Request) -> Response:
        query = read_query(request, ZONES)
        views = [{"name": name, "resource": "network", "state": "available"} for name in await self._service.zones()]
        return list_response(request, ZONES, query, page_of(ZONES, query, views))


def view(agent: Agent) -> dict[str, Any]:
    """An agent as clients see it."""
    return {
        "id": agent.id,
        "agent_type": agent.agent_type,
        "binary": agent.binary,
        "topic": agent.topic,
        "host": agent.host,
        "availability_zone": agent.availability_zone,
        "admin_state_up": True,
        "alive": agent.alive,
        "created_at": _moment(agent.created_at),
        "started_at": _moment(agent.started_at),
        "heartbeat_timestamp": _moment(agent.heartbeat_at),
        "description": None,
        "configurations": {},
        "resource_versions": {},
        "resources_synced": None,
    }


def _moment(moment_s: float) -> str:
    """As Neutron shows the times of agents, unlike all its others."""
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%d %H:%M:%S")

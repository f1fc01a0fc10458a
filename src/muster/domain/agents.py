"""Neutron's agents, as Muster shows them: each host runs one that serves DHCP and one that does its bridges."""

from uuid import NAMESPACE_OID, uuid5

from msgspec import Struct

DHCP_AGENT = "DHCP agent"
BRIDGE_AGENT = "Linux bridge agent"
DOWN_AFTER_S = 75.0  # Neutron's agent_down_time


class HostSight(Struct, frozen=True, kw_only=True):
    """What of a host its agents show."""

    id: str
    hostname: str
    availability_zone: str
    firewall: bool
    forced_down: bool
    created_at: float
    last_seen_at: float


class Agent(Struct, frozen=True, kw_only=True):
    """One agent."""

    id: str
    agent_type: str
    binary: str
    topic: str
    host: str
    availability_zone: str | None
    alive: bool
    created_at: float
    started_at: float
    heartbeat_at: float


def agents_of(host: HostSight, now: float) -> list[Agent]:
    """The agents of a host; their ids are derived from its id and never change."""
    alive = not host.forced_down and now - host.last_seen_at <= DOWN_AFTER_S
    kinds = (
        (DHCP_AGENT, "neutron-dhcp-agent", "dhcp_agent", host.availability_zone),
        (BRIDGE_AGENT, "neutron-linuxbridge-agent", "N/A", None),
    )
    return [
        Agent(
            id=str(uuid5(NAMESPACE_OID, f"{host.id}/{kind}")),
            agent_type=kind,
            binary=binary,
            topic=topic,
            host=host.hostname,
            availability_zone=zone,
            alive=alive,
            created_at=host.created_at,
            started_at=host.created_at,
            heartbeat_at=host.last_seen_at,
        )
        for kind, binary, topic, zone in kinds
    ]

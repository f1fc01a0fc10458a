"""How long which project had which servers, for accounts. Pure.

A server counts from its first start to its end, also while it is stopped, as with Nova.
"""

from collections.abc import Sequence

from msgspec import Struct


class UsedServer(Struct, frozen=True, kw_only=True):
    """A server that was there in a period, gone or not."""

    id: str
    project_id: str
    name: str
    flavor_name: str
    vcpus: int
    ram_mib: int
    disk_gib: int
    vm_state: str
    launched_at: float
    terminated_at: float | None


class Period(Struct, frozen=True):
    """A span of time: Unix seconds."""

    start: float
    stop: float

    def hours_of(self, server: UsedServer) -> float:
        """How long the server was there within the period."""
        began = max(self.start, server.launched_at)
        ended = self.stop if server.terminated_at is None else min(self.stop, server.terminated_at)
        return max(0.0, ended - began) / 3600


class Usage(Struct, frozen=True, kw_only=True):
    """What one project used: hours, and hours times size."""

    project_id: str
    servers: tuple[UsedServer, ...]
    hours: float
    vcpu_hours: float
    ram_mib_hours: float
    disk_gib_hours: float


def usages_of(servers: Sequence[UsedServer], period: Period) -> list[Usage]:
    """What each project used, in the order in which its first server comes."""
    members: dict[str, list[UsedServer]] = {}
    for server in servers:
        members.setdefault(server.project_id, []).append(server)
    return [_usage(project_id, tuple(mine), period) for project_id, mine in members.items()]


def no_usage(project_id: str) -> Usage:
    """What a project used that had no servers."""
    return _usage(project_id, (), Period(0.0, 0.0))


def _usage(project_id: str, servers: tuple[UsedServer, ...], period: Period) -> Usage:
    hours = [period.hours_of(server) for server in servers]
    return Usage(
        project_id=project_id,
        servers=servers,
        hours=sum(hours),
        vcpu_hours=sum(server.vcpus * each for server, each in zip(servers, hours, strict=True)),
        ram_mib_hours=sum(server.ram_mib * each for server, each in zip(servers, hours, strict=True)),
        disk_gib_hours=sum(server.disk_gib * each for server, each in zip(servers, hours, strict=True)),
    )

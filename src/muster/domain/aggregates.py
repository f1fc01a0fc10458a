"""Host aggregates: named sets of hosts. One with a zone moves its hosts into that zone. Pure."""

from collections.abc import Sequence

from msgspec import Struct

from muster.base.errors import Conflict
from muster.domain.hypervisors import Hypervisor

ZONE_KEY = "availability_zone"


class NewAggregate(Struct, frozen=True, kw_only=True):
    """An aggregate to be made."""

    uuid: str
    name: str
    availability_zone: str | None = None


class Aggregate(Struct, frozen=True, kw_only=True):
    """An aggregate as it is. `hostnames` are its hosts', in the order of their names."""

    id: int
    uuid: str
    name: str
    availability_zone: str | None
    metadata: dict[str, str]
    created_at: float
    updated_at: float | None = None
    hostnames: tuple[str, ...] = ()


def check_zone(zone: str | None, hosts: Sequence[Hypervisor], others: Sequence[Aggregate]) -> None:
    """Raises Conflict if hosts cannot move to a zone: `others` are the other aggregates that have one of the hosts.

    A host is in one zone only, and does not change it while it holds servers.
    """
    taken = next((one for one in others if one.availability_zone not in (None, zone)), None)
    if zone is not None and taken is not None:
        raise _refused(f"One or more hosts are already in availability zone {taken.availability_zone}")
    moved = [host for host in hosts if zone is not None and host.availability_zone != zone]
    if any(host.servers_used for host in moved):
        raise _refused("One or more hosts contain instances in this zone")


def _refused(reason: str) -> Conflict:
    return Conflict(f"Cannot change the aggregate's hosts or zone; Reason: {reason}.", code="compute.aggregate_zone")

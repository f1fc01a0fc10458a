"""Ids of hosts by microversion: UUIDs from 2.53 on, numbers before."""

from muster.api.http.requests import Request
from muster.base.errors import Invalid, NotFound
from muster.base.ids import is_uuid
from muster.domain.hypervisors import Hypervisor, legacy_id
from muster.services.hypervisors import Hypervisors

UUIDS = (2, 53)


def shown_id(request: Request, host: Hypervisor) -> str | int:
    """A host's id as the request's microversion has it."""
    return host.id if request.version >= UUIDS else legacy_id(host.id)


async def named_host(request: Request, hosts: Hypervisors, host_id: str, missing: str) -> Hypervisor:
    """The host that a path names. Raises Invalid for what is no UUID (from 2.53 on), NotFound with `missing`."""
    found: Hypervisor | None = None
    if request.version >= UUIDS:
        if not is_uuid(host_id):
            raise Invalid(f"Invalid uuid {host_id}")
        found = await hosts.get(host_id)
    elif host_id.isascii() and host_id.isdigit() and len(host_id) < 20:
        found = await hosts.get(int(host_id))
    if found is None:
        raise NotFound(missing, code="compute.host")
    return found

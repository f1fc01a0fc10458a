"""Hosts: their ids by microversion (UUIDs from 2.53 on, numbers before), and `os-hosts`, which 2.43 took away."""

from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from muster.api.compute.bodies import parse
from muster.api.compute.queries import asked
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import Invalid, NotFound, Unsupported
from muster.base.ids import is_uuid
from muster.domain.hypervisors import Hypervisor, HypervisorQuery, Share, legacy_id
from muster.domain.policies import Rule
from muster.services.hypervisors import Hypervisors

UUIDS = (2, 53)
_LAST = (2, 42)

_Switch = Literal["enable", "Enable", "ENABLE", "disable", "Disable", "DISABLE"]


class HostBody(Struct, forbid_unknown_fields=True):
    """What shall be changed of a host."""

    status: _Switch | UnsetType = UNSET
    maintenance_mode: _Switch | UnsetType = UNSET


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


class HostHandlers:
    """Handlers of `/os-hosts`."""

    def __init__(self, hosts: Hypervisors) -> None:
        self._hosts = hosts

    async def index(self, request: Request) -> Response:
        """The hosts, or those of a zone."""
        zone = asked(request).get("zone")
        shown = [
            {"host_name": host.hostname, "service": "compute", "zone": host.availability_zone}
            for host in await self._hosts.page(HypervisorQuery())
            if zone in (None, "", host.availability_zone)
        ]
        return Response({"hosts": shown})

    async def show(self, request: Request) -> Response:
        """What a host has, what is taken of it, and by which project."""
        host = await self._named(request)
        shares = await self._hosts.shares(host)
        whole = Share("(total)", host.vcpus, host.ram_mib, host.disk_gib)
        now = Share("(used_now)", host.vcpus_used, host.ram_taken_mib, host.disk_used_gib)
        most = Share("(used_max)", host.vcpus_used, host.ram_used_mib, host.disk_used_gib)
        return Response({"host": [_share(host, one) for one in (whole, now, most, *shares)]})

    async def update(self, request: Request) -> Response:
        """Enable or disable a host's service, as `os-services` does. Raises Unsupported for a mode of maintenance."""
        body = await parse(request, HostBody)
        host = await self._named(request)
        if body.maintenance_mode is not UNSET:
            raise Unsupported("Hosts have no maintenance mode.", code="compute.not_implemented")
        if body.status is UNSET:
            raise Invalid("Either status or maintenance_mode must be given.")
        changed = await self._hosts.change(
            host, {"disabled": body.status.lower() == "disable", "disabled_reason": None}
        )
        return Response({"host": changed.hostname, "status": "disabled" if changed.disabled else "enabled"})

    async def switch_power(self, request: Request) -> Response:
        """Start, stop or reboot a host. Raises NotFound, else Unsupported."""
        await self._named(request)
        raise Unsupported("This cloud does not switch hosts on or off.", code="compute.not_implemented")

    async def _named(self, request: Request) -> Hypervisor:
        name = request.parameters["host_name"]
        host = await self._hosts.named(name)
        if host is None:
            raise NotFound(f"Host {name} could not be found.", code="compute.host")
        return host


def host_routes(hosts: Hypervisors) -> Routes:
    """Method and path to handler and rule."""
    handlers = HostHandlers(hosts)
    one = "/v2.1/os-hosts/{host_name}"
    return {
        ("GET", "/v2.1/os-hosts"): Route(handlers.index, Rule.ADMIN, until=_LAST),
        ("GET", one): Route(handlers.show, Rule.ADMIN, until=_LAST),
        ("PUT", one): Route(handlers.update, Rule.ADMIN, until=_LAST),
        **{
            ("GET", f"{one}/{verb}"): Route(handlers.switch_power, Rule.ADMIN, until=_LAST)
            for verb in ("startup", "shutdown", "reboot")
        },
    }


def _share(host: Hypervisor, share: Share) -> dict[str, Any]:
    return {
        "resource": {
            "host": host.hostname,
            "project": share.project_id,
            "cpu": share.vcpus,
            "memory_mb": share.ram_mib,
            "disk_gb": share.disk_gib,
        }
    }

"""Availability zones over HTTP."""

from typing import Any

from muster.api.compute.compute_services import BINARY
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.units import iso_plain
from muster.domain.hypervisors import Hypervisor
from muster.domain.policies import Rule
from muster.services.hypervisors import Hypervisors


class AvailabilityZoneHandlers:
    """Handlers of `/os-availability-zone`."""

    def __init__(self, hosts: Hypervisors) -> None:
        self._hosts = hosts

    async def index(self, _request: Request) -> Response:
        """The zones, and whether they are available."""
        zones = await self._hosts.zones()
        return Response({"availabilityZoneInfo": [_view(zone.name, zone.available, None) for zone in zones]})

    async def detail(self, _request: Request) -> Response:
        """The zones with their hosts."""
        shown = [
            _view(zone.name, zone.available, {host.hostname: {BINARY: self._host(host)} for host in zone.hosts})
            for zone in await self._hosts.zones()
        ]
        return Response({"availabilityZoneInfo": shown})

    def _host(self, host: Hypervisor) -> dict[str, Any]:
        return {
            "available": self._hosts.is_up(host),
            "active": not host.disabled,
            "updated_at": iso_plain(host.last_seen_at),
        }


def availability_zone_routes(hosts: Hypervisors) -> Routes:
    """Method and path to handler and rule."""
    handlers = AvailabilityZoneHandlers(hosts)
    return {
        ("GET", "/v2.1/os-availability-zone"): Route(handlers.index, Rule.PROJECT),
        ("GET", "/v2.1/os-availability-zone/detail"): Route(handlers.detail, Rule.ADMIN),
    }


def _view(name: str, available: bool, hosts: dict[str, Any] | None) -> dict[str, Any]:
    return {"zoneName": name, "zoneState": {"available": available}, "hosts": hosts}

"""What a server takes of its host, over HTTP: for administrators. Below 2.48 as Nova with libvirt has it."""

from typing import Any

from muster.api.compute.services import Services
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.base.units import KIB, MIB
from muster.domain.diagnostics import CardCounts, Diagnostics, DiskCounts
from muster.domain.servers import Server

_ONE_FORM = (2, 48)
_COUNTED = ("octets", "errors", "drop", "packets")


class ServerDiagnosticsHandlers:
    """Handlers of `/servers/{server_id}/diagnostics`."""

    def __init__(self, services: Services) -> None:
        self._diagnostics = services.server_diagnostics
        self._clock = services.clock

    async def show(self, request: Request) -> Response:
        """A server's. One message to its host and one back."""
        server, found = await self._diagnostics.of(request.context, request.parameters["server_id"])
        if request.version < _ONE_FORM:
            return Response(_as_libvirt(server, found))
        return Response(_view(server, found, self._clock()))


def _view(server: Server, found: Diagnostics, now: float) -> dict[str, Any]:
    started = server.launched_at
    return {
        "state": "paused" if found.paused else "running",
        "driver": "libvirt",  # the only one of Nova's words that fits, for simulated guests too
        "hypervisor": found.hypervisor,
        "hypervisor_os": "linux",
        "uptime": None if started is None else max(0, int(now - started)),
        "config_drive": server.config_drive,
        "num_cpus": server.flavor.vcpus,
        "num_nics": len(found.cards),
        "num_disks": len(found.disks),
        "memory_details": {"maximum": _ram_mib(server, found), "used": found.ram_used_mib},
        "cpu_details": [
            {"id": number, "time": time_ns, "utilisation": None} for number, time_ns in enumerate(found.cpu_times_ns)
        ],
        "nic_details": [_card(card) for card in found.cards],
        "disk_details": [_disk(disk) for disk in found.disks],
    }


def _card(card: CardCounts) -> dict[str, Any]:
    counts = {f"{way}_{what}": getattr(card, f"{way}_{what}") for way in ("rx", "tx") for what in _COUNTED}
    return {"mac_address": card.mac_address, **counts, "rx_rate": None, "tx_rate": None}


def _disk(disk: DiskCounts) -> dict[str, Any]:
    return {
        "read_bytes": disk.read_bytes,
        "read_requests": disk.read_requests,
        "write_bytes": disk.write_bytes,
        "write_requests": disk.write_requests,
        "errors_count": None,
    }


def _as_libvirt(server: Server, found: Diagnostics) -> dict[str, Any]:
    """Flat, by the names of devices; memory in KiB. What is not counted is left out."""
    shown: dict[str, Any] = {"memory": _ram_mib(server, found) * MIB // KIB}
    if found.ram_used_mib is not None:
        shown["memory-rss"] = found.ram_used_mib * MIB // KIB
    shown |= {f"cpu{number}_time": time_ns for number, time_ns in enumerate(found.cpu_times_ns)}
    for disk in found.disks:
        shown |= {
            f"{disk.name}_read": disk.read_bytes,
            f"{disk.name}_read_req": disk.read_requests,
            f"{disk.name}_write": disk.write_bytes,
            f"{disk.name}_write_req": disk.write_requests,
        }
    for card in found.cards:
        for way in ("rx", "tx"):
            shown[f"{card.name}_{way}"] = getattr(card, f"{way}_octets")
            shown |= {f"{card.name}_{way}_{what}": getattr(card, f"{way}_{what}") for what in _COUNTED[1:]}
    return {name: value for name, value in shown.items() if value is not None}


def _ram_mib(server: Server, found: Diagnostics) -> int:
    return server.flavor.ram_mib if found.ram_max_mib is None else found.ram_max_mib

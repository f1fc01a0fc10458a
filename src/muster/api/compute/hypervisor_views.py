"""Hypervisors as Nova shows them, by microversion. What is used of a host is what is claimed of it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from muster.api.compute.hosts import shown_id
from muster.api.http.requests import Request
from muster.domain.hypervisors import Guest, Hypervisor, Statistics
from muster.services.hypervisors import Hypervisors

_CPU_INFO_IS_OBJECT, _EMPTY_LISTS, _NO_FIGURES = (2, 28), (2, 75), (2, 88)

Guests = Mapping[str, Sequence[Guest]]


class Views:
    """How hypervisors are shown."""

    def __init__(self, hypervisors: Hypervisors) -> None:
        self._hypervisors = hypervisors

    def brief(self, request: Request, host: Hypervisor, guests: Guests | None = None) -> dict[str, Any]:
        """A hypervisor in `GET /os-hypervisors`, with its servers if these are given; before 2.75 if there are any."""
        shown: dict[str, Any] = {
            "id": shown_id(request, host),
            "hypervisor_hostname": host.hostname,
            "state": "up" if self._hypervisors.is_up(host) else "down",
            "status": "disabled" if host.disabled else "enabled",
        }
        if guests is not None and (guests.get(host.id) or request.version >= _EMPTY_LISTS):
            shown["servers"] = [{"name": guest.name, "uuid": guest.id} for guest in guests.get(host.id, ())]
        return shown

    def full(self, request: Request, host: Hypervisor, guests: Guests | None = None) -> dict[str, Any]:
        """A hypervisor in full."""
        shown = {
            **self.brief(request, host, guests),
            "hypervisor_type": host.hypervisor_type,
            "hypervisor_version": host.hypervisor_version,
            "host_ip": host.host_ip,
            "service": {
                "id": shown_id(request, host),
                "host": host.hostname,
                "disabled_reason": host.disabled_reason,
            },
        }
        if request.version >= _NO_FIGURES:
            return shown | {"uptime": self.uptime(host) if self._hypervisors.is_up(host) else None}
        as_object = request.version >= _CPU_INFO_IS_OBJECT
        return shown | _figures(host) | {"cpu_info": _cpu_info(host.cpu_info) if as_object else host.cpu_info}

    def together(self, all_hosts: Statistics) -> dict[str, int]:
        """All hypervisors' figures added up."""
        return {"count": all_hosts.count, **_figures(all_hosts)}

    def uptime(self, host: Hypervisor) -> str:
        """For how long the host's agent has been there, in the words of `uptime`.

        Clients take them apart and show nothing of a sentence that says less: what is not known is `n/a`.
        """
        now = self._hypervisors.now()
        minutes = int(max(0.0, now - host.updated_at)) // 60
        days, hours = minutes // 1440, minutes // 60 % 24
        up = f"{days} days, {hours:2}:{minutes % 60:02}"
        return f"{datetime.fromtimestamp(now, UTC):%H:%M:%S} up {up},  n/a users,  load average: n/a"


def _figures(has: Hypervisor | Statistics) -> dict[str, int]:
    return {
        "vcpus": has.vcpus,
        "memory_mb": has.ram_mib,
        "local_gb": has.disk_gib,
        "vcpus_used": has.vcpus_used,
        "memory_mb_used": has.ram_taken_mib,
        "local_gb_used": has.disk_used_gib,
        "free_ram_mb": has.ram_mib - has.ram_taken_mib,
        "free_disk_gb": has.disk_gib - has.disk_used_gib,
        "current_workload": 0,
        "running_vms": has.servers_used,
        "disk_available_least": has.disk_gib - has.disk_used_gib,
    }


def _cpu_info(text: str) -> Any:
    """What a host says of its processor: an object, as far as it says it as one."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {"model": text} if text else {}

"""Servers as Nova shows them, by microversion."""

import hashlib
from typing import Any

from muster.api.http.requests import Request
from muster.base.units import iso
from muster.domain.servers import Server


def links(request: Request, server_id: str) -> list[dict[str, str]]:
    """Where a server is found."""
    return [
        {"rel": "self", "href": f"{request.base_url}/v2.1/servers/{server_id}"},
        {"rel": "bookmark", "href": f"{request.base_url}/servers/{server_id}"},
    ]


def brief(request: Request, server: Server) -> dict[str, Any]:
    """A server in `GET /servers`."""
    return {"id": server.id, "name": server.name, "links": links(request, server.id)}


def full(request: Request, server: Server) -> dict[str, Any]:
    """A server in full."""
    shown: dict[str, Any] = {
        **brief(request, server),
        "status": server.status,
        "tenant_id": server.project_id,
        "user_id": server.user_id,
        "metadata": server.metadata,
        "hostId": _host_hash(server),
        "image": {"id": server.image.id, "links": _bookmark(request, "images", server.image.id)}
        if server.image
        else "",
        "flavor": _flavor(request, server),
        "created": iso(server.created_at),
        "updated": iso(server.updated_at),
        "addresses": addresses(server),
        "accessIPv4": server.access_ip_v4,
        "accessIPv6": server.access_ip_v6,
        "OS-DCF:diskConfig": server.disk_config,
        "OS-EXT-AZ:availability_zone": server.zone_of_host or server.availability_zone or "",
        "config_drive": "True" if server.config_drive else "",
        "key_name": server.key_name,
        "OS-SRV-USG:launched_at": _plain(server.launched_at),
        "OS-SRV-USG:terminated_at": _plain(server.terminated_at),
        "OS-EXT-STS:task_state": server.task_state,
        "OS-EXT-STS:vm_state": server.vm_state,
        "OS-EXT-STS:power_state": server.power_state,
        "os-extended-volumes:volumes_attached": [],
    }
    if server.status in ("ACTIVE", "BUILD", "REBUILD", "REBOOT", "HARD_REBOOT"):
        shown["progress"] = 100 if server.status == "ACTIVE" else 0
    names = dict.fromkeys(name for interface in server.interfaces for name in interface.security_group_names)
    if names:
        shown["security_groups"] = [{"name": name} for name in names]
    if server.fault is not None and server.status == "ERROR":
        fault = server.fault
        shown["fault"] = {"code": fault.code, "created": iso(fault.created_at), "message": fault.message}
    shown.update(_newer(request, server))
    if request.context.is_admin:
        shown.update(_for_admins(request, server))
    return shown


def addresses(server: Server) -> dict[str, list[dict[str, Any]]]:
    """A server's addresses by network name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for interface in server.interfaces:
        for fixed_ip in interface.fixed_ips:
            found.setdefault(interface.network_name, []).append(
                {
                    "version": 6 if ":" in fixed_ip.ip_address else 4,
                    "addr": fixed_ip.ip_address,
                    "OS-EXT-IPS:type": "fixed",
                    "OS-EXT-IPS-MAC:mac_addr": interface.mac_address,
                }
            )
    return found


def _flavor(request: Request, server: Server) -> dict[str, Any]:
    flavor = server.flavor
    if request.version < (2, 47):
        return {"id": flavor.id, "links": _bookmark(request, "flavors", flavor.id)}
    return {
        "original_name": flavor.name,
        "vcpus": flavor.vcpus,
        "ram": flavor.ram_mib,
        "disk": flavor.disk_gib,
        "ephemeral": flavor.ephemeral_gib,
        "swap": flavor.swap_mib,
        "extra_specs": flavor.extra_specs,
    }


def _newer(request: Request, server: Server) -> dict[str, Any]:
    """Fields that came with later versions."""
    fields: list[tuple[tuple[int, int], str, Any]] = [
        ((2, 9), "locked", server.locked),
        ((2, 19), "description", server.description),
        ((2, 26), "tags", list(server.tags)),
        ((2, 63), "trusted_image_certificates", None),
        ((2, 71), "server_groups", [server.server_group_id] if server.server_group_id else []),
        ((2, 73), "locked_reason", server.locked_reason),
        ((2, 90), "OS-EXT-SRV-ATTR:hostname", server.hostname),
    ]
    return {name: value for version, name, value in fields if request.version >= version}


def _for_admins(request: Request, server: Server) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "OS-EXT-SRV-ATTR:host": server.hostname_of_host,
        "OS-EXT-SRV-ATTR:hypervisor_hostname": server.hostname_of_host,
        "OS-EXT-SRV-ATTR:instance_name": f"instance-{server.id[:8]}",
    }
    if request.version >= (2, 3):
        shown |= {
            "OS-EXT-SRV-ATTR:hostname": server.hostname,
            "OS-EXT-SRV-ATTR:reservation_id": server.reservation_id,
            "OS-EXT-SRV-ATTR:launch_index": server.launch_index,
            "OS-EXT-SRV-ATTR:kernel_id": "",
            "OS-EXT-SRV-ATTR:ramdisk_id": "",
            "OS-EXT-SRV-ATTR:root_device_name": "/dev/vda",
            "OS-EXT-SRV-ATTR:user_data": server.user_data,
        }
    if request.version >= (2, 16):
        shown["host_status"] = "UP" if server.host_id else ""
    return shown


def _host_hash(server: Server) -> str:
    """Tells a project's servers on one host from others without telling the host (Nova's own recipe)."""
    if not server.hostname_of_host:
        return ""
    return hashlib.sha224((server.project_id + server.hostname_of_host).encode()).hexdigest()


def _bookmark(request: Request, kind: str, thing_id: str) -> list[dict[str, str]]:
    return [{"rel": "bookmark", "href": f"{request.base_url}/{kind}/{thing_id}"}]


def _plain(moment: float | None) -> str | None:
    return None if moment is None else iso(moment).rstrip("Z") + ".000000"

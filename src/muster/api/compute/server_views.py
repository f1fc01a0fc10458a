"""Servers as Nova shows them, by microversion."""

import hashlib
from typing import Any

from muster.api.http.requests import Request
from muster.base.units import iso, iso_plain
from muster.domain.servers import Fault, Interface, Server, host_status

_WITH_PROGRESS = ("ACTIVE", "BUILD", "REBUILD")
_WITH_FAULT = ("ERROR", "DELETED")


def links(request: Request, server_id: str) -> list[dict[str, str]]:
    """Where a server is found."""
    return [
        {"rel": "self", "href": f"{request.base_url}/v2.1/servers/{server_id}"},
        {"rel": "bookmark", "href": f"{request.base_url}/servers/{server_id}"},
    ]


def brief(request: Request, server: Server) -> dict[str, Any]:
    """A server in `GET /servers`."""
    return {"id": server.id, "name": server.name, "links": links(request, server.id)}


def full(request: Request, server: Server, now: float) -> dict[str, Any]:
    """A server in a detailed list."""
    shown = {**_core(request, server, extended=True), **_placed(server), **_newer(request, server)}
    if names := group_names(server):
        shown["security_groups"] = [{"name": name} for name in names]
    if request.context.is_admin:
        shown |= _for_admins(request, server, now)
    return shown


def alone(request: Request, server: Server, now: float) -> dict[str, Any]:
    """A server by itself: with its server group, which lists leave out."""
    return full(request, server, now) | _group(request, server)


def changed(request: Request, server: Server, now: float) -> dict[str, Any]:
    """A server as the answer to a change: with all of it only from 2.75 on."""
    if request.version >= (2, 75):
        return alone(request, server, now)
    return _core(request, server, extended=False) | _newer(request, server) | _group(request, server)


def rebuilt(request: Request, server: Server, now: float, admin_password: str) -> dict[str, Any]:
    """A server as the answer to a rebuild."""
    shown = changed(request, server, now)
    shown.pop("OS-EXT-SRV-ATTR:user_data", None)
    if request.version >= (2, 54):
        shown["key_name"] = server.key_name
    if request.version >= (2, 57):
        shown["user_data"] = server.user_data
    return shown | {"adminPass": admin_password}


def addresses(server: Server, *, extended: bool = True) -> dict[str, list[dict[str, Any]]]:
    """A server's addresses by network name; `extended` with their type and MAC address."""
    found: dict[str, list[dict[str, Any]]] = {}
    for interface in server.interfaces:
        more = {"OS-EXT-IPS:type": "fixed", "OS-EXT-IPS-MAC:mac_addr": interface.mac_address} if extended else {}
        for fixed_ip in interface.fixed_ips:
            version = 6 if ":" in fixed_ip.ip_address else 4
            found.setdefault(interface.network_name, []).append(
                {"version": version, "addr": fixed_ip.ip_address, **more}
            )
    return found


def attachment(request: Request, server: Server, interface: Interface) -> dict[str, Any]:
    """A server's interface."""
    shown: dict[str, Any] = {
        "port_id": interface.port_id,
        "net_id": interface.network_id,
        "mac_addr": interface.mac_address,
        "port_state": interface.status,
        "fixed_ips": [{"subnet_id": ip.subnet_id, "ip_address": ip.ip_address} for ip in interface.fixed_ips],
    }
    if request.version >= (2, 70):
        shown["tag"] = server.interface_tags.get(interface.port_id)
    return shown


def group_names(server: Server) -> list[str]:
    """The names of the security groups of a server's ports, each once."""
    return list(dict.fromkeys(name for interface in server.interfaces for name in interface.security_group_names))


def host_hash(project_id: str, hostname: str | None) -> str:
    """Tells a project's servers on one host from others without telling the host (Nova's own recipe)."""
    if not hostname:
        return ""
    return hashlib.sha224((project_id + hostname).encode()).hexdigest()


def _core(request: Request, server: Server, *, extended: bool) -> dict[str, Any]:
    """What every microversion shows, in every answer."""
    shown: dict[str, Any] = {
        **brief(request, server),
        "status": server.status,
        "tenant_id": server.project_id,
        "user_id": server.user_id,
        "metadata": server.metadata,
        "hostId": host_hash(server.project_id, server.hostname_of_host),
        "image": {"id": server.image.id, "links": _bookmark(request, "images", server.image.id)}
        if server.image
        else "",
        "flavor": _flavor(request, server),
        "created": iso(server.created_at),
        "updated": iso(server.updated_at),
        "addresses": addresses(server, extended=extended),
        "accessIPv4": server.access_ip_v4,
        "accessIPv6": server.access_ip_v6,
        "OS-DCF:diskConfig": server.disk_config,
    }
    if server.status in _WITH_PROGRESS:
        shown["progress"] = 100 if server.status == "ACTIVE" else 0
    if server.fault is not None and server.status in _WITH_FAULT:
        shown["fault"] = _fault(request, server.fault)
    return shown


def _placed(server: Server) -> dict[str, Any]:
    return {
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


def _fault(request: Request, fault: Fault) -> dict[str, Any]:
    """Details are the operator's, but for faults that are the user's own doing."""
    shown = {"code": fault.code, "created": iso(fault.created_at), "message": fault.message}
    if fault.details and (request.context.is_admin or fault.code != 500):
        shown["details"] = fault.details
    return shown


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
        ((2, 73), "locked_reason", server.locked_reason),
        ((2, 90), "OS-EXT-SRV-ATTR:hostname", server.hostname),
        ((2, 96), "pinned_availability_zone", server.availability_zone),
    ]
    return {name: value for version, name, value in fields if request.version >= version}


def _group(request: Request, server: Server) -> dict[str, Any]:
    if request.version < (2, 71):
        return {}
    return {"server_groups": [server.server_group_id] if server.server_group_id else []}


def _for_admins(request: Request, server: Server, now: float) -> dict[str, Any]:
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
        shown["host_status"] = host_status(server, now)
    return shown


def _bookmark(request: Request, kind: str, thing_id: str) -> list[dict[str, str]]:
    return [{"rel": "bookmark", "href": f"{request.base_url}/{kind}/{thing_id}"}]


def _plain(moment: float | None) -> str | None:
    return None if moment is None else iso_plain(moment)

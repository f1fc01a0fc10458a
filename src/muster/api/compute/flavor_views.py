"""Flavors as Nova shows them, by microversion."""

from typing import Any

from muster.api.http.requests import Request
from muster.domain.flavors import Flavor


def brief(request: Request, flavor: Flavor) -> dict[str, Any]:
    """A flavor in `GET /flavors`."""
    shown: dict[str, Any] = {
        "id": flavor.id,
        "name": flavor.name,
        "links": [
            {"rel": "self", "href": f"{request.base_url}/v2.1/flavors/{flavor.id}"},
            {"rel": "bookmark", "href": f"{request.base_url}/flavors/{flavor.id}"},
        ],
    }
    if request.version >= (2, 55):
        shown["description"] = flavor.description
    return shown


def view(request: Request, flavor: Flavor) -> dict[str, Any]:
    """A flavor in full."""
    shown = {
        **brief(request, flavor),
        "vcpus": flavor.vcpus,
        "ram": flavor.ram_mib,
        "disk": flavor.disk_gib,
        "OS-FLV-EXT-DATA:ephemeral": flavor.ephemeral_gib,
        "OS-FLV-DISABLED:disabled": flavor.disabled,
        "os-flavor-access:is_public": flavor.is_public,
        "rxtx_factor": flavor.rxtx_factor,
        "swap": flavor.swap_mib if request.version >= (2, 75) else flavor.swap_mib or "",
    }
    if request.version >= (2, 61):
        shown["extra_specs"] = flavor.extra_specs
    return shown

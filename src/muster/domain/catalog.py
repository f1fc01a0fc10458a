"""The service catalog: regions, services, and where each is reached."""

from collections.abc import Collection, Mapping
from typing import Any

from msgspec import Struct

INTERFACES = ("public", "internal", "admin")
DEFAULT_REGION = "RegionOne"
# The attributes by which lists of them are filtered.
REGION_FILTERS = ("id", "parent_region_id")
SERVICE_FILTERS = ("id", "type", "name")
ENDPOINT_FILTERS = ("id", "interface", "service_id", "region_id")


class Region(Struct, frozen=True, kw_only=True):
    """A region; its id is its name."""

    id: str
    description: str = ""
    parent_region_id: str | None = None
    extra: Mapping[str, Any] = {}


class CatalogService(Struct, frozen=True, kw_only=True):
    """A service of a type (`compute`, `network`, ...)."""

    id: str
    type: str
    name: str = ""
    enabled: bool = True
    extra: Mapping[str, Any] = {}


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where a service is reached. A `url` that begins with `/` is on the host that the client itself used."""

    id: str
    service_id: str
    interface: str
    url: str
    region_id: str | None = None
    enabled: bool = True
    extra: Mapping[str, Any] = {}


class CatalogEntry(Struct, frozen=True):
    """A service that the cloud itself offers: the same URL for all three interfaces."""

    type: str
    name: str
    url: str


def own_entries(base_url: str = "") -> tuple[CatalogEntry, ...]:
    """What Muster offers behind `base_url` (`http://cloud:8774`); empty for wherever the client found it."""
    base_url = base_url.rstrip("/")
    return (
        CatalogEntry("identity", "keystone", f"{base_url}/identity"),
        CatalogEntry("compute", "nova", f"{base_url}/compute/v2.1"),
        CatalogEntry("network", "neutron", f"{base_url}/network"),
        CatalogEntry("image", "glance", f"{base_url}/image"),
    )


def resolve_url(url: str, host_url: str, project_id: str | None, user_id: str) -> str | None:
    """An endpoint's URL for one client: its host and ids put in. None if the URL wants a project and there is none."""
    if "(tenant_id)" in url or "(project_id)" in url:
        if project_id is None:
            return None
        for name in ("tenant_id", "project_id"):
            url = url.replace(f"$({name})s", project_id).replace(f"%({name})s", project_id)
    url = url.replace("$(user_id)s", user_id).replace("%(user_id)s", user_id)
    return host_url + url if url.startswith("/") else url


def render_catalog(
    services: Collection[CatalogService],
    endpoints: Collection[Endpoint],
    host_url: str,
    project_id: str | None,
    user_id: str,
) -> list[dict[str, Any]]:
    """The catalog of a token's body: enabled services, each with its enabled endpoints."""
    offered: dict[str, list[dict[str, Any]]] = {service.id: [] for service in services if service.enabled}
    for endpoint in endpoints:
        url = resolve_url(endpoint.url, host_url, project_id, user_id)
        if endpoint.enabled and endpoint.service_id in offered and url is not None:
            offered[endpoint.service_id].append(
                {
                    "id": endpoint.id,
                    "interface": endpoint.interface,
                    "region": endpoint.region_id,
                    "region_id": endpoint.region_id,
                    "url": url,
                }
            )
    return [
        {"id": service.id, "type": service.type, "name": service.name, "endpoints": offered[service.id]}
        for service in services
        if service.enabled
    ]

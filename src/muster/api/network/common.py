"""What the resources have in common in lists and answers."""

from collections.abc import Mapping
from typing import Any, Protocol

from muster.api.http.responses import Response
from muster.api.network.attributes import Resource
from muster.api.network.listing import NUMBER, TEXT, Filter
from muster.base.units import iso, parse_iso


class Standard(Protocol):
    """What every resource has."""

    @property
    def id(self) -> str: ...
    @property
    def project_id(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def revision(self) -> int: ...
    @property
    def created_at(self) -> float: ...
    @property
    def updated_at(self) -> float: ...


COMMON_FILTERS: Mapping[str, Filter] = {
    "id": TEXT,
    "name": TEXT,
    "description": TEXT,
    "project_id": TEXT,
    "tenant_id": Filter("project_id"),
    "revision_number": Filter("revision", NUMBER.convert),
    "changed_since": Filter(convert=parse_iso),
}

COMMON_SORTS: Mapping[str, str] = {
    "id": "id",
    "name": "name",
    "description": "description",
    "project_id": "project_id",
    "tenant_id": "project_id",
    "created_at": "created_at",
    "updated_at": "updated_at",
    "revision_number": "revision",
}


def standard(item: Standard) -> dict[str, Any]:
    """The attributes that every resource has."""
    shown: dict[str, Any] = {
        "id": item.id,
        "tenant_id": item.project_id,
        "project_id": item.project_id,
        "description": item.description,
        "revision_number": item.revision,
        "created_at": iso(item.created_at),
        "updated_at": iso(item.updated_at),
    }
    name = getattr(item, "name", None)  # rules have none
    if name is not None:
        shown["name"] = name
    return shown


def made(resource: Resource, views: list[dict[str, Any]], *, bulk: bool) -> Response:
    """The answer to a POST: one resource, or the list of a bulk request."""
    return Response({resource.collection: views} if bulk else {resource.name: views[0]}, status=201)

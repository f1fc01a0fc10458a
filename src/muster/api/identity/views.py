"""What Keystone's resources look like in a reply."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar
from urllib.parse import urlencode

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.base.units import iso_us
from muster.domain.application_credentials import ApplicationCredential
from muster.domain.attribute_filters import Listing
from muster.domain.catalog import CatalogService, Endpoint, Region
from muster.domain.groups import Group
from muster.domain.projects import Project
from muster.domain.roles import Role
from muster.domain.users import User

View = dict[str, Any]


class Identified(Protocol):
    """Anything with an id."""

    @property
    def id(self) -> str:
        """Its id."""


Item = TypeVar("Item", bound=Identified)


def links(request: Request, path: str) -> View:
    """The links of one resource; `path` without a slash in front."""
    return {"self": f"{request.base_url}/v3/{path}"}


def host_url(request: Request) -> str:
    """Scheme and host as the client sees them, without the prefix of this API."""
    return request.base_url.removesuffix(request.scope.get("api_prefix", ""))


def collection(
    request: Request, name: str, listing: Listing[Item], render: Callable[[Request, Item], View]
) -> Response:
    """A list with its links; the next page is named where there is one."""
    following = None
    if listing.has_more:
        kept = [(key, value) for key, value in request.query if key != "marker"]
        following = f"{request.base_url}{request.path}?{urlencode([*kept, ('marker', listing.items[-1].id)])}"
    body: View = {name: [render(request, item) for item in listing.items], "links": list_links(request, following)}
    if listing.has_more:
        body["truncated"] = True
    return Response(body)


def list_links(request: Request, following: str | None = None) -> View:
    """The links of a list."""
    query = request.scope["query_string"].decode("latin-1")
    here = f"{request.base_url}{request.path}" + (f"?{query}" if query else "")
    return {"self": here, "next": following, "previous": None}


def project(request: Request, item: Project) -> View:
    """A project (or a domain seen as one)."""
    return {
        **item.extra,
        "id": item.id,
        "name": item.name,
        "domain_id": item.domain_id,
        "parent_id": item.parent_id,
        "is_domain": item.is_domain,
        "enabled": item.enabled,
        "description": item.description,
        "tags": item.tags,
        "options": item.options,
        "links": links(request, f"projects/{item.id}"),
    }


def domain(request: Request, item: Project) -> View:
    """A domain."""
    return {
        **item.extra,
        "id": item.id,
        "name": item.name,
        "enabled": item.enabled,
        "description": item.description,
        "tags": item.tags,
        "options": item.options,
        "links": links(request, f"domains/{item.id}"),
    }


def user(request: Request, item: User) -> View:
    """A user, without anything about the password."""
    default = {} if item.default_project_id is None else {"default_project_id": item.default_project_id}
    return {
        **item.extra,
        "id": item.id,
        "name": item.name,
        "domain_id": item.domain_id,
        "enabled": item.enabled,
        "options": item.options,
        "password_expires_at": None,
        "links": links(request, f"users/{item.id}"),
        **default,
    }


def group(request: Request, item: Group) -> View:
    """A group."""
    return {
        **item.extra,
        "id": item.id,
        "name": item.name,
        "domain_id": item.domain_id,
        "description": item.description,
        "links": links(request, f"groups/{item.id}"),
    }


def role(request: Request, item: Role) -> View:
    """A role."""
    return {
        **item.extra,
        "id": item.id,
        "name": item.name,
        "domain_id": item.domain_id,
        "description": item.description,
        "options": item.options,
        "links": links(request, f"roles/{item.id}"),
    }


def region(request: Request, item: Region) -> View:
    """A region."""
    return {
        **item.extra,
        "id": item.id,
        "description": item.description,
        "parent_region_id": item.parent_region_id,
        "links": links(request, f"regions/{item.id}"),
    }


def service(request: Request, item: CatalogService) -> View:
    """A service of the catalog."""
    return {
        **item.extra,
        "id": item.id,
        "type": item.type,
        "name": item.name,
        "enabled": item.enabled,
        "links": links(request, f"services/{item.id}"),
    }


def endpoint(request: Request, item: Endpoint) -> View:
    """An endpoint of the catalog; its URL as stored, but with the client's host where it has none."""
    return {
        **item.extra,
        "id": item.id,
        "service_id": item.service_id,
        "interface": item.interface,
        "url": host_url(request) + item.url if item.url.startswith("/") else item.url,
        "region": item.region_id,
        "region_id": item.region_id,
        "enabled": item.enabled,
        "links": links(request, f"endpoints/{item.id}"),
    }


def credential(request: Request, item: ApplicationCredential, roles: Mapping[str, Role]) -> View:
    """An application credential, without its secret."""
    held = [roles[role_id] for role_id in item.role_ids if role_id in roles]
    return {
        "id": item.id,
        "name": item.name,
        "description": item.description,
        "user_id": item.user_id,
        "project_id": item.project_id,
        "system": None,
        "roles": [{"id": one.id, "name": one.name, "domain_id": one.domain_id} for one in held],
        "expires_at": None if item.expires_at_s is None else iso_us(item.expires_at_s).removesuffix("Z"),
        "unrestricted": item.unrestricted,
        "links": links(request, f"users/{item.user_id}/application_credentials/{item.id}"),
    }

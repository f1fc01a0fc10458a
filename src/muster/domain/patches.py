"""What a request sets of a resource: each field may be left out, which is not the same as null."""

from typing import Annotated, Any, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

Value = TypeVar("Value", bound=Struct)

Name = Annotated[str, Meta(min_length=1, max_length=255)]
Id = Annotated[str, Meta(min_length=1, max_length=64)]


def given(**values: Any) -> dict[str, Any]:
    """Those of the values that a request sets."""
    return {name: value for name, value in values.items() if value is not UNSET}


def changed(value: Value, **values: Any) -> Value:
    """A resource with what a request sets."""
    return replace(value, **given(**values))


class ProjectPatch(Struct, frozen=True, kw_only=True):
    """A project or a domain, or some of it."""

    name: Name | UnsetType = UNSET
    domain_id: Id | UnsetType | None = UNSET
    parent_id: Id | UnsetType | None = UNSET
    is_domain: bool | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    tags: list[str] | UnsetType = UNSET
    options: dict[str, Any] | UnsetType = UNSET
    extra: dict[str, Any] = {}


class UserPatch(Struct, frozen=True, kw_only=True):
    """A user, or some of it."""

    name: Name | UnsetType = UNSET
    domain_id: Id | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    password: str | UnsetType | None = UNSET
    default_project_id: Id | UnsetType | None = UNSET
    options: dict[str, Any] | UnsetType = UNSET
    extra: dict[str, Any] = {}

    def __repr__(self) -> str:
        return "UserPatch(...)"


class GroupPatch(Struct, frozen=True, kw_only=True):
    """A group, or some of it."""

    name: Name | UnsetType = UNSET
    domain_id: Id | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    extra: dict[str, Any] = {}


class RolePatch(Struct, frozen=True, kw_only=True):
    """A role, or some of it."""

    name: Name | UnsetType = UNSET
    domain_id: Id | UnsetType | None = UNSET
    description: str | UnsetType | None = UNSET
    options: dict[str, Any] | UnsetType = UNSET
    extra: dict[str, Any] = {}


class RegionPatch(Struct, frozen=True, kw_only=True):
    """A region, or some of it."""

    id: Name | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    parent_region_id: Name | UnsetType | None = UNSET
    extra: dict[str, Any] = {}


class ServicePatch(Struct, frozen=True, kw_only=True):
    """A service of the catalog, or some of it."""

    type: Name | UnsetType = UNSET
    name: Annotated[str, Meta(max_length=255)] | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET
    extra: dict[str, Any] = {}


class EndpointPatch(Struct, frozen=True, kw_only=True):
    """An endpoint of the catalog, or some of it."""

    service_id: Id | UnsetType = UNSET
    interface: Annotated[str, Meta(pattern="^(public|internal|admin)$")] | UnsetType = UNSET
    url: Annotated[str, Meta(min_length=1, max_length=2_000)] | UnsetType = UNSET
    region_id: Name | UnsetType | None = UNSET
    region: Name | UnsetType | None = UNSET  # the older name of `region_id`
    enabled: bool | UnsetType = UNSET
    extra: dict[str, Any] = {}

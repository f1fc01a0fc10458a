"""Flavors: sizes of servers; which of them a project may use, and how they are listed. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from muster.base.errors import Invalid


class Flavor(Struct, frozen=True, kw_only=True):
    """A flavor as it is."""

    id: str
    name: str
    vcpus: int
    ram_mib: int
    disk_gib: int = 0
    ephemeral_gib: int = 0
    swap_mib: int = 0
    rxtx_factor: float = 1.0
    is_public: bool = True
    disabled: bool = False
    description: str | None = None
    extra_specs: dict[str, str] = {}
    created_at: float = 0.0
    updated_at: float = 0.0


class FlavorQuery(Struct, frozen=True, kw_only=True):
    """What a list of flavors asks for. `is_public` True takes those in that a project was given; None takes all."""

    is_public: bool | None = True
    min_ram_mib: int = 0
    min_disk_gib: int = 0
    sort_key: str = "flavorid"
    descending: bool = False
    marker: str | None = None
    limit: int | None = None


class FlavorTable(Struct, frozen=True):
    """All flavors by id, and which projects may use those that are not public, by the flavor's id."""

    flavors: Mapping[str, Flavor]
    access: Mapping[str, frozenset[str]]

    def usable(self, flavor: Flavor, project_id: str | None) -> bool:
        """Whether a project may make servers of it."""
        return flavor.is_public or (project_id or "") in self.access.get(flavor.id, ())

    def listed(self, query: FlavorQuery, project_id: str | None) -> list[Flavor]:
        """A page of flavors. Raises Invalid for an unknown marker or sort key."""
        found = [flavor for flavor in self.flavors.values() if self._matches(flavor, query, project_id)]
        found = ordered(found, query.sort_key, descending=query.descending)
        if query.marker is not None:
            found = found[_place(found, query.marker) + 1 :]
        return found[: query.limit]

    def _matches(self, flavor: Flavor, query: FlavorQuery, project_id: str | None) -> bool:
        if flavor.ram_mib < query.min_ram_mib or flavor.disk_gib < query.min_disk_gib:
            return False
        if query.is_public is None:
            return True
        return self.usable(flavor, project_id) if query.is_public else not flavor.is_public


# Nova's names of what flavors can be sorted by.
SORT_KEYS: Mapping[str, Callable[[Flavor], Any]] = {
    "flavorid": lambda flavor: flavor.id,
    "id": lambda flavor: (flavor.created_at, flavor.id),
    "name": lambda flavor: flavor.name,
    "memory_mb": lambda flavor: flavor.ram_mib,
    "vcpus": lambda flavor: flavor.vcpus,
    "root_gb": lambda flavor: flavor.disk_gib,
    "ephemeral_gb": lambda flavor: flavor.ephemeral_gib,
    "swap": lambda flavor: flavor.swap_mib,
    "rxtx_factor": lambda flavor: flavor.rxtx_factor,
    "is_public": lambda flavor: flavor.is_public,
    "disabled": lambda flavor: flavor.disabled,
    "description": lambda flavor: flavor.description or "",
    "created_at": lambda flavor: flavor.created_at,
    "updated_at": lambda flavor: flavor.updated_at,
}


def ordered(flavors: Sequence[Flavor], sort_key: str, *, descending: bool) -> list[Flavor]:
    """The flavors in an order that is the same each time. Raises Invalid."""
    key = SORT_KEYS.get(sort_key)
    if key is None:
        raise Invalid(f"Sort key supplied is invalid: {sort_key[:80]}")
    return sorted(sorted(flavors, key=lambda flavor: flavor.id), key=key, reverse=descending)


def _place(flavors: Sequence[Flavor], marker: str) -> int:
    for index, flavor in enumerate(flavors):
        if flavor.id == marker:
            return index
    raise Invalid(f"marker [{marker[:255]}] not found")


# What a fresh cloud offers: the sizes that everybody's scripts know, and one for the test guest.
DEFAULT_FLAVORS = (
    Flavor(id="1", name="m1.tiny", vcpus=1, ram_mib=512, disk_gib=1),
    Flavor(id="2", name="m1.small", vcpus=1, ram_mib=2_048, disk_gib=20),
    Flavor(id="3", name="m1.medium", vcpus=2, ram_mib=4_096, disk_gib=40),
    Flavor(id="4", name="m1.large", vcpus=4, ram_mib=8_192, disk_gib=80),
    Flavor(id="5", name="m1.xlarge", vcpus=8, ram_mib=16_384, disk_gib=160),
    Flavor(id="guest.tiny", name="guest.tiny", vcpus=1, ram_mib=128),
)

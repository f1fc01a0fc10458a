"""What a list of images asks for: conditions, order, page."""

from collections.abc import Mapping

from msgspec import Struct

DEFAULT_LIMIT = 25
MAX_LIMIT = 1_000

SORT_KEYS = ("name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at")


class TimeFilter(Struct, frozen=True):
    """A condition on `created_at` or `updated_at`, whole Unix seconds. Operators: eq neq gt gte lt lte."""

    field: str
    operator: str
    at_s: float


class ImageFilter(Struct, frozen=True, kw_only=True):
    """The conditions, all of which must hold. `one_of` maps an attribute to the values it may have."""

    one_of: Mapping[str, tuple[str | int, ...]] = {}
    times: tuple[TimeFilter, ...] = ()
    properties: Mapping[str, str] = {}
    tags: tuple[str, ...] = ()
    size_min: int | None = None
    size_max: int | None = None
    visibility: str | None = None  # one of Visibility, or "all"
    member_status: str = "accepted"  # one of MemberStatus, or "all"
    os_hidden: bool = False
    protected: bool | None = None


class Sort(Struct, frozen=True):
    """One key of the order."""

    key: str
    descending: bool = True


class ImagePage(Struct, frozen=True, kw_only=True):
    """At most `limit` images behind the one with the id `marker`."""

    sorts: tuple[Sort, ...]
    limit: int = DEFAULT_LIMIT
    marker: str | None = None


class Viewer(Struct, frozen=True):
    """Whose eyes a list is for."""

    project_id: str | None
    is_admin: bool

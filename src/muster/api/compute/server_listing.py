"""The queries of `GET /servers` and `/servers/detail`: which filters and sort keys there are, from which microversion,
for whom. As with Nova, a filter that the caller may not use is left out; from 2.75 an unknown one is refused."""

from collections.abc import Mapping, Sequence

from muster.api.compute.fields import lenient_boolean
from muster.api.compute.paging import page_asked
from muster.api.compute.projects import own_project
from muster.api.compute.queries import asked, check_known, check_pattern, moment, moments, truth
from muster.api.http.requests import Request
from muster.base.errors import Forbidden, Invalid
from muster.domain.server_listing import NEWEST_FIRST, ServerQuery
from muster.domain.servers import states_of
from muster.domain.tag_filters import TAG_PARAMETERS, parse_tags

Version = tuple[int, int]

# Query parameter -> column; the text must be the column's value.
_EXACT = {
    "uuid": "uuid",
    "user_id": "user_id",
    "image": "image_id",
    "image_ref": "image_id",
    "flavor": "flavor_id",
    "vm_state": "vm_state",
    "task_state": "task_state",
    "host": "host",
}
# The text is searched for in the column's value.
_PATTERNS = {
    "name": "name",
    "display_name": "name",
    "description": "description",
    "display_description": "description",
    "hostname": "hostname",
    "key_name": "key_name",
    "reservation_id": "reservation_id",
    "availability_zone": "availability_zone",
    "node": "host",
    "locked_by": "locked_by",
    "access_ip_v4": "access_ip_v4",
    "access_ip_v6": "access_ip_v6",
}
_MOMENTS = ("created_at", "launched_at", "terminated_at")
_NUMBERS = ("power_state", "launch_index")
# What no server has, or all have alike, and what only Nova's database knows.
_CONSTANTS = {"kernel_id": "", "ramdisk_id": "", "root_device_name": "/dev/vda"}
_PAGING = frozenset({"limit", "marker", "sort_key", "sort_dir"})
_JOINED = frozenset(
    {
        "block_device_mapping",
        "services",
        "metadata",
        "system_metadata",
        "info_cache",
        "security_groups",
        "pci_devices",
    }
)
_ALL = (
    frozenset({"status", "ip", "ip6", "changes-since", "all_tenants", "project_id", "tenant_id", "deleted"})
    | frozenset({"soft_deleted", "config_drive", "auto_disk_config", "progress"})
    | _EXACT.keys()
    | _PATTERNS.keys()
    | frozenset(_MOMENTS)
    | frozenset(_NUMBERS)
    | _CONSTANTS.keys()
    | _PAGING
    | _JOINED
)
# What came later, for everybody.
_SINCE: Sequence[tuple[Version, frozenset[str]]] = (
    ((2, 26), frozenset(TAG_PARAMETERS)),
    ((2, 66), frozenset({"changes-before"})),
    ((2, 73), frozenset({"locked"})),
)
# What those who are no admins may use, and from when on.
_FOR_USERS: Sequence[tuple[Version, frozenset[str]]] = (
    (
        (2, 1),
        frozenset({"reservation_id", "name", "status", "image", "flavor", "ip", "changes-since", "all_tenants"})
        | _PAGING,
    ),
    ((2, 5), frozenset({"ip6"})),
    *_SINCE,
    (
        (2, 83),
        frozenset({"availability_zone", "config_drive", "key_name", "user_id", "power_state", "task_state"})
        | frozenset({"vm_state", "progress", *_MOMENTS}),
    ),
    ((2, 90), frozenset({"hostname"})),
)

# Nova's sort keys -> columns; None orders nothing, because all servers have the same.
_SORTS: Mapping[str, str | None] = {
    "access_ip_v4": "access_ip_v4",
    "access_ip_v6": "access_ip_v6",
    "auto_disk_config": "disk_config",
    "availability_zone": "availability_zone",
    "config_drive": "config_drive",
    "created_at": "created_at",
    "display_description": "description",
    "display_name": "name",
    "host": "host",
    "hostname": "hostname",
    "image_ref": "image_id",
    "instance_type_id": "flavor_id",
    "kernel_id": None,
    "key_name": "key_name",
    "launch_index": "launch_index",
    "launched_at": "launched_at",
    "locked_by": "locked_by",
    "node": "host",
    "power_state": "power_state",
    "progress": None,
    "project_id": "project_id",
    "ramdisk_id": None,
    "root_device_name": None,
    "task_state": "task_state",
    "terminated_at": "terminated_at",
    "updated_at": "updated_at",
    "user_id": "user_id",
    "uuid": "uuid",
    "vm_state": "vm_state",
    "locked": "locked",  # from 2.73
}
# Taken without any effect before 2.75.
_IGNORED_SORTS = (
    frozenset({"architecture", "cell_name", "cleaned", "default_ephemeral_device", "default_swap_device", "deleted"})
    | frozenset({"deleted_at", "disable_terminate", "ephemeral_gb", "ephemeral_key_uuid", "id", "key_data"})
    | frozenset({"launched_on", "locked", "memory_mb", "os_type", "reservation_id", "root_gb", "shutdown_terminate"})
    | frozenset({"user_data", "vcpus", "vm_mode"})
)


def query_of(request: Request, *, interfaces: bool) -> ServerQuery | None:
    """What the request lists; None if there can be nothing of it. Raises Invalid, Forbidden."""
    values, version, is_admin = asked(request), request.version, request.context.is_admin
    known = _ALL | _from(_SINCE, version)
    if version >= (2, 75):
        check_known(values, known)
    sort = _sort(request)
    allowed = known if is_admin else known & _from(_FOR_USERS, version)
    values = {name: value for name, value in values.items() if name in allowed or (is_admin and name[:1] == "_")}
    for name in values:
        if name in _JOINED or name.startswith("_"):
            raise Invalid(f"Invalid filter field: {name[:64]}.")
    states = _states(request, values)
    if states is None or not _constants_match(values):
        return None
    vm_states, task_states = states
    since, before = moments(values)
    page = page_asked(values)
    return ServerQuery(
        project_id=_project(request, values),
        filters=_filters(values),
        patterns={column: check_pattern(values[name], name) for name, column in _PATTERNS.items() if name in values},
        moments={name: moment(values, name) or 0.0 for name in _MOMENTS if name in values},
        vm_states=vm_states,
        task_states=task_states,
        changes_since=since,
        changes_before=before,
        deleted=_deleted(request, values, vm_states, any_time=since is not None or before is not None),
        tags=parse_tags(values),
        ip=_pattern(values, "ip"),
        ip6=_pattern(values, "ip6"),
        limit=0 if values.get("limit") == "0" else page.limit,
        marker=page.marker,
        sort=sort,
        interfaces=interfaces,
    )


def _from(steps: Sequence[tuple[Version, frozenset[str]]], version: Version) -> frozenset[str]:
    return frozenset(name for since, names in steps if version >= since for name in names)


def _pattern(values: Mapping[str, str], name: str) -> str | None:
    return check_pattern(values[name], name) if name in values else None


def _project(request: Request, values: Mapping[str, str]) -> str | None:
    """The project whose servers are listed; None for those of all projects."""
    if values.get("all_tenants") != "" and not truth(values, "all_tenants"):
        return own_project(request)
    if not request.context.is_admin:
        raise Forbidden(
            f"Policy doesn't allow os_compute_api:servers:{_kind(request)}:get_all_tenants to be performed."
        )
    return values.get("project_id", values.get("tenant_id"))


def _kind(request: Request) -> str:
    return "detail" if request.path.rstrip("/").endswith("detail") else "index"


def _states(request: Request, values: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The (vm_states, task_states) that `status` stands for; None for a word that is none."""
    if "status" not in values:
        return (), ()
    found = states_of([value for name, value in request.query if name == "status"])
    if found == ((), ()):
        if request.version >= (2, 38):
            raise Invalid("Invalid status value")
        return None
    return found


def _deleted(request: Request, values: Mapping[str, str], vm_states: Sequence[str], *, any_time: bool) -> bool | None:
    """Whether those that are gone are listed, or only they; lists of what has changed since show both."""
    if tuple(vm_states) == ("deleted",):
        if not request.context.is_admin:
            raise Forbidden("Only administrators may list deleted instances")
        return True
    if "deleted" in values:
        return lenient_boolean(values["deleted"])
    return None if any_time else False


def _filters(values: Mapping[str, str]) -> dict[str, tuple[object, ...]]:
    filters: dict[str, tuple[object, ...]] = {
        column: (values[name],) for name, column in _EXACT.items() if name in values
    }
    for name in _NUMBERS:
        if name in values:
            text = values[name]
            filters[name] = (int(text),) if text.isascii() and text.isdigit() and len(text) < 9 else ()
    if "locked" in values:
        filters["locked"] = (truth(values, "locked"),)
    if "config_drive" in values:
        filters["config_drive"] = (lenient_boolean(values["config_drive"]),)
    if "auto_disk_config" in values:
        filters["disk_config"] = ("AUTO" if lenient_boolean(values["auto_disk_config"]) else "MANUAL",)
    return filters


def _constants_match(values: Mapping[str, str]) -> bool:
    return all(values[name] in constant for name, constant in _CONSTANTS.items() if name in values)


def _sort(request: Request) -> tuple[tuple[str, bool], ...]:
    keys = [value.strip() for name, value in request.query if name == "sort_key"]
    directions = [value.strip() for name, value in request.query if name == "sort_dir"]
    keys = keys or ["created_at"]
    for index in reversed(range(len(keys))):
        if _is_ignored(keys[index], request):
            del keys[index]
            del directions[index : index + 1]
    if any(direction not in ("asc", "desc") for direction in directions):
        raise Invalid("Unknown sort direction, must be one of: asc, desc")
    if len(directions) > max(1, len(keys)):
        raise Invalid("Sort direction array size exceeds sort key array size")
    default = directions[0] if directions else "desc"
    padded = directions + [default] * (len(keys) - len(directions))
    sort = [(_SORTS[key], direction == "desc") for key, direction in zip(keys, padded, strict=False)]
    return tuple((column, descending) for column, descending in sort if column is not None) or NEWEST_FIRST


def _is_ignored(key: str, request: Request) -> bool:
    """Whether the key orders nothing. Raises Invalid for one that there is not, Forbidden for one of the admin's."""
    if key == "locked" and request.version >= (2, 73):
        return False
    if key in _IGNORED_SORTS and request.version < (2, 75):
        return True
    if key not in _SORTS or key == "locked":
        raise Invalid(
            f"Invalid input for query parameters sort_key. Value: {key[:64]}. It is not one of the sort keys."
        )
    if key in ("host", "node") and not request.context.is_admin:
        raise Forbidden(f"Only administrators can sort servers by {key}")
    return False

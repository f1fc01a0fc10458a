"""Hints for placement. `group` is heeded; those of filters that Nova does not enable are checked, no more."""

from collections.abc import Mapping
from typing import Any

from muster.api.compute.fields import refused
from muster.base.ids import is_uuid

_SERVERS = ("different_host", "same_host")


def group_of(hints: Mapping[str, Any]) -> str | None:
    """The server group that hints name. Raises Invalid for a hint that is not what it should be."""
    for name in _SERVERS:
        value = hints.get(name, [])
        for one in value if isinstance(value, list) else [value]:
            _check_id(name, one)
    group_id = hints.get("group")
    if group_id is None:
        return None
    _check_id("group", group_id)
    return str(group_id)


def _check_id(name: str, value: object) -> None:
    if not isinstance(value, str) or not is_uuid(value):
        raise refused(name, str(value), f"'{str(value)[:80]}' is not a 'uuid'")

"""Groups of users: what is granted to a group is granted to each member."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

# The attributes by which lists of them are filtered.
GROUP_FILTERS = ("id", "name", "domain_id")


class Group(Struct, frozen=True, kw_only=True):
    """A group of a domain's."""

    id: str
    name: str
    domain_id: str
    description: str = ""
    extra: Mapping[str, Any] = {}

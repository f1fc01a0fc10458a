"""Filters of lists by tags, which projects, servers and resources of networks have alike."""

from collections.abc import Mapping

from msgspec import Struct

# Query parameter -> field.
_PARAMETERS = {"tags": "all_of", "tags-any": "any_of", "not-tags": "not_all_of", "not-tags-any": "not_any_of"}
TAG_PARAMETERS = tuple(_PARAMETERS)


class TagFilter(Struct, frozen=True, kw_only=True):
    """Tags that must all be there, any of which must be, which must not all be, none of which may be."""

    all_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    not_all_of: tuple[str, ...] = ()
    not_any_of: tuple[str, ...] = ()


def parse_tags(query: Mapping[str, str]) -> TagFilter:
    """The filter of a query by name, tags parted by commas; other names are left to others."""
    found = {
        field: tuple(dict.fromkeys(tag for tag in query.get(name, "").split(",") if tag))
        for name, field in _PARAMETERS.items()
    }
    return TagFilter(**found)

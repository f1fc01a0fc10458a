"""What a list of servers is asked for, and how Nova's patterns become conditions. Pure."""

import re
from collections.abc import Mapping

from msgspec import Struct

from muster.domain.network_listing import TagFilter

PAGE_LIMIT = 1_000
NEWEST_FIRST = (("created_at", True),)


class ServerQuery(Struct, frozen=True, kw_only=True):
    """A page of servers. Names of columns are those of the store's `FILTERS` and `SORTS`.

    `filters` maps columns to the values of which they have one, `patterns` to what is found in them (see `like`),
    `moments` to the second that they name; `deleted` None shows those that are gone too. `sort` is (column,
    descending); the id makes the order total.
    """

    project_id: str | None = None
    filters: Mapping[str, tuple[object, ...]] = {}
    patterns: Mapping[str, str] = {}
    moments: Mapping[str, float] = {}
    vm_states: tuple[str, ...] = ()
    task_states: tuple[str, ...] = ()
    changes_since: float | None = None
    changes_before: float | None = None
    deleted: bool | None = False
    tags: TagFilter = TagFilter()
    ip: str | None = None
    ip6: str | None = None
    limit: int = PAGE_LIMIT
    marker: str | None = None
    sort: tuple[tuple[str, bool], ...] = NEWEST_FIRST
    interfaces: bool = True


def like(pattern: str) -> str:
    r"""A pattern for LIKE (escape character \) that finds what Nova's regular expression finds.

    Anchors, `.` and `.*` are understood; whatever else regular expressions know is taken literally, so that no
    request can make the database work for long.
    """
    start, end = pattern.startswith("^"), pattern.endswith("$") and not pattern.endswith("\\$")
    inner = pattern[1 if start else 0 : len(pattern) - 1 if end else len(pattern)]
    text = "".join(_piece(match[0]) for match in re.finditer(r"\.\*|\\.|.", inner, re.DOTALL))
    return ("" if start else "%") + text + ("" if end else "%")


def _piece(part: str) -> str:
    if part == ".*":
        return "%"
    if part == ".":
        return "_"
    char = part[-1]
    return "\\" + char if char in "%_\\" else char

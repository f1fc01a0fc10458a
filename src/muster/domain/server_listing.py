"""What a list of servers is asked for, and how Nova's patterns become conditions. Pure."""

import re
from collections.abc import Mapping

from msgspec import Struct

from muster.domain.tag_filters import TagFilter

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


def like(pattern: str) -> tuple[str, ...]:
    r"""Patterns for LIKE (escape character \) of which one finds whatever Nova's regular expression finds.

    Anchors, `.` and alternatives are what they are; of classes, groups and repetitions only the place counts, so that
    they may find more. No request can make the database work for long with a regular expression of its own.
    """
    return tuple(_like(alternative) for alternative in _alternatives(pattern))


def _alternatives(pattern: str) -> list[str]:
    """The parts between bars outside of groups and classes."""
    parts, depth = [""], 0
    for piece in _TOKENS.findall(pattern):
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if piece == "|" and depth <= 0:
            parts.append("")
        else:
            parts[-1] += piece
    return parts


def _like(pattern: str) -> str:
    atoms: list[str] = []
    depth = 0
    for piece in _TOKENS.findall(pattern.removeprefix("^")):
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if depth > 0:
            continue
        if piece == ")":
            atoms.append("%")
        elif piece[0] in "*+?{" and atoms:
            atoms[-1] = atoms[-1] + "%" if piece == "+" else "%"
        else:
            atoms.append(_atom(piece))
    ends = bool(atoms) and atoms[-1] == _END
    return ("" if pattern.startswith("^") else "%") + "".join(atoms).replace(_END, "") + ("" if ends else "%")


def _atom(piece: str) -> str:
    if piece == "$":
        return _END
    if piece == "." or (piece[0] == "[" and len(piece) > 1) or piece in _CLASSES:
        return "_"
    char = piece[-1]
    return "\\" + char if char in "%_\\" else char


# A character that is escaped, a class, a count, or any other character.
_TOKENS = re.compile(r"\\.|\[\^?\]?[^\]]*\]|\{\d*,?\d*\}|.", re.DOTALL)
_CLASSES = frozenset({"\\d", "\\D", "\\w", "\\W", "\\s", "\\S"})
_END = "\0"  # no text has it

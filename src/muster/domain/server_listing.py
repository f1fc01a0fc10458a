"""What a list of servers is asked for, and how Nova's patterns become conditions. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from msgspec import Struct

from muster.domain.patterns import CLASSES, EDGES, LENGTH, TOKENS, Pattern, alternatives, pattern_of
from muster.domain.servers import Server
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

    Anchors, `.`, `.*` and alternatives are what they are; of classes, groups and other repetitions only the place
    counts, so that they may find more, which is left to `judge`. No request can make the database work for long with a
    regular expression of its own. Found is also what has the pattern's very characters: clients that look for
    `web (1)` or `c++` by its name ask so.
    """
    found = tuple(_like(alternative) for alternative in alternatives(pattern))
    if _is_like(pattern):
        return found
    literal = f"%{''.join(_escaped(char) for char in pattern)}%"
    return (literal,) if pattern_of(pattern) is None else (*found, literal)


def judge(query: ServerQuery) -> Callable[[Server], bool] | None:
    """Tells the servers that the patterns of a query find from those that only `like` finds; None: there are no such.

    It looks at the addresses of those it is shown.
    """
    searched = [(_TEXTS[column], text) for column, text in query.patterns.items()]
    searched += [(texts, text) for texts, text in ((_ipv4, query.ip), (_ipv6, query.ip6)) if text is not None]
    rules = [
        partial(_finds, pattern, text.lower(), texts)
        for texts, text in searched
        if not _is_like(text) and (pattern := pattern_of(text)) is not None
    ]
    return (lambda server: all(rule(server) for rule in rules)) if rules else None


def is_offered(pattern: str) -> bool:
    """Whether a regular expression finds here what it finds elsewhere. What nobody means as one is a text as it is."""
    if (
        len(pattern) > LENGTH
    ):  # no text has so many characters, and brackets that nothing closes are read again and again
        return "[" not in pattern and _is_like(pattern)
    return _is_like(pattern) or pattern_of(pattern) is not None or _MEANT.search(pattern) is None


def looks_at_addresses(query: ServerQuery) -> bool:
    """Whether `judge` needs the addresses of servers."""
    return any(text is not None and not _is_like(text) for text in (query.ip, query.ip6))


def _finds(pattern: Pattern, literal: str, texts: Callable[[Server], Iterable[str | None]], server: Server) -> bool:
    return any(text is not None and (pattern.finds(text) or literal in text.lower()) for text in texts(server))


def _is_like(pattern: str) -> bool:
    """Whether `like` says all that a pattern says."""
    plain = "".join(one.removeprefix("^").removesuffix("$") for one in alternatives(_ANY.sub("", pattern)))
    return not any(
        piece[0] in "[({*+?^$" or (piece[0] == "\\" and piece[-1].isalnum()) for piece in TOKENS.findall(plain)
    )


def _ipv4(server: Server) -> Iterable[str]:
    return (address for address in _addresses(server) if ":" not in address)


def _ipv6(server: Server) -> Iterable[str]:
    return (address for address in _addresses(server) if ":" in address)


def _addresses(server: Server) -> Iterable[str]:
    return (fixed.ip_address for interface in server.interfaces for fixed in interface.fixed_ips)


def _like(pattern: str) -> str:
    atoms: list[str] = []
    depth = 0
    for piece in TOKENS.findall(pattern.removeprefix("^")):
        depth += (piece[0] == "(") - (piece == ")")
        if depth > 0:
            continue
        if piece == ")":
            atoms.append("%")
        elif piece in _REPEATS or (piece[0] == "{" and len(piece) > 1):
            atoms[-1:] = [*atoms[-1:], "%"] if piece == "+" else ["%"]
        else:
            atoms.append(_atom(piece))
    ends = bool(atoms) and atoms[-1] == _END
    return ("" if pattern.startswith("^") else "%") + "".join(atoms).replace(_END, "") + ("" if ends else "%")


def _atom(piece: str) -> str:
    if piece == "$":
        return _END
    if piece == "^" or piece in EDGES:
        return ""
    if piece == "." or (piece[0] == "[" and len(piece) > 1) or piece in CLASSES:
        return "_"
    return _escaped(piece[-1])


def _escaped(char: str) -> str:
    return "\\" + char if char in "%_\\" else char


_REPEATS = frozenset("*+?")
_END = "\0"  # no text has it
_MEANT = re.compile(r"\\|\(\?|\{")
_ANY = re.compile(r"(?<!\\)\.[*+](?![*+?])")
# What a pattern is searched for in, by column.
_TEXTS: Mapping[str, Callable[[Server], Iterable[str | None]]] = {
    "name": lambda server: [server.name],
    "description": lambda server: [server.description],
    "hostname": lambda server: [server.hostname],
    "key_name": lambda server: [server.key_name],
    "reservation_id": lambda server: [server.reservation_id],
    "availability_zone": lambda server: [server.zone_of_host or server.availability_zone or ""],
    "host": lambda server: [server.hostname_of_host],
    "locked_by": lambda server: [server.locked_by],
    "access_ip_v4": lambda server: [server.access_ip_v4],
    "access_ip_v6": lambda server: [server.access_ip_v6],
}

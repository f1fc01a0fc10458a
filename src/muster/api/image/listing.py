"""The query of a list of images: filters, order and page, as the Image service reads them.

Source: Image service API reference, "List images".
"""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from muster.base.errors import Invalid
from muster.base.units import parse_iso
from muster.domain.image_attributes import is_storable
from muster.domain.image_listing import DEFAULT_LIMIT, MAX_LIMIT, SORT_KEYS, ImageFilter, ImagePage, Sort, TimeFilter
from muster.domain.images import Image, MemberStatus, Visibility

_LISTS = ("id", "name", "status", "disk_format", "container_format")
_TEXTS = ("owner", "checksum", "os_hash_algo", "os_hash_value")
_SMALL, _BIG = (1 << 31) - 1, (1 << 63) - 1
_INTEGERS = {"min_disk": _SMALL, "min_ram": _SMALL, "size": _BIG, "virtual_size": _BIG}
_TIMES = ("created_at", "updated_at")
_OPERATORS = ("eq", "neq", "gt", "gte", "lt", "lte")
_IN = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^",]*?))\s*(,|$)')
_MAX_VALUES = 1_000

Pairs = Sequence[tuple[str, str]]


class _Draft:
    """Filters as they are collected."""

    def __init__(self) -> None:
        self.one_of: dict[str, tuple[str | int, ...]] = {}
        self.times: list[TimeFilter] = []
        self.properties: dict[str, str] = {}
        self.tags: list[str] = []
        self.others: dict[str, Any] = {}

    def take(self, name: str, value: str) -> None:
        """One pair of the query. Raises Invalid."""
        if name in _LISTS:
            self.one_of[name] = _one_of(value)
        elif name in _TEXTS:
            self.one_of[name] = (value,)
        elif name in _INTEGERS:
            self.one_of[name] = (_integer(name, value, _INTEGERS[name]),)
        elif name in ("size_min", "size_max"):
            self.others[name] = _integer(name, value, _BIG)
        elif name in _TIMES:
            self.times.append(_time(name, value))
        elif name == "tag":
            self.tags.append(value.strip())
        elif name in ("protected", "os_hidden"):
            self.others[name] = _flag(name, value)
        elif name == "visibility":
            self.others[name] = _choice(value, [*Visibility, "all"], "visibility value")
        elif name == "member_status":
            self.others[name] = _choice(value, [*MemberStatus, "all"], "status")
        elif name == "changes-since":
            raise Invalid('The "changes-since" filter is no longer available on v2.')
        else:
            self.properties[name] = value

    def done(self) -> ImageFilter:
        """All of them."""
        return ImageFilter(
            one_of=self.one_of,
            times=tuple(self.times),
            properties=self.properties,
            tags=tuple(dict.fromkeys(self.tags)),
            **self.others,
        )


class ListQuery(Struct, frozen=True):
    """A whole query."""

    wanted: ImageFilter
    page: ImagePage


def parse_query(pairs: Pairs) -> ListQuery:
    """Raises Invalid for what is no valid filter, order or page."""
    draft, page = _Draft(), dict[str, list[str]]()
    for name, value in pairs:
        if not is_storable(name) or not is_storable(value):
            raise Invalid("The query has characters that cannot be stored")
        if name in ("limit", "marker", "sort", "sort_key", "sort_dir"):
            page.setdefault(name, []).append(value)
        else:
            draft.take(name, value)
    limit = _limit(page["limit"][-1]) if "limit" in page else DEFAULT_LIMIT
    marker = page["marker"][-1] if "marker" in page else None
    return ListQuery(draft.done(), ImagePage(sorts=_sorts(page), limit=limit, marker=marker))


def links(pairs: Pairs, page: ImagePage, found: Sequence[Image]) -> dict[str, str]:
    """`first`, and `next` when the page is full."""
    kept = [(name, value) for name, value in pairs if name != "marker"]
    made = {"first": _link(kept)}
    if found and len(found) == page.limit:
        made["next"] = _link([*kept, ("marker", found[-1].id)])
    return made


def _link(pairs: Pairs) -> str:
    return "/v2/images" + (f"?{urlencode(pairs)}" if pairs else "")


def _limit(text: str) -> int:
    try:
        limit = int(text) if len(text) < 20 else _BIG
    except ValueError as error:
        raise Invalid("limit param must be an integer") from error
    if limit < 0:
        raise Invalid("limit param must be positive")
    return min(limit, MAX_LIMIT)


def _sorts(page: dict[str, list[str]]) -> tuple[Sort, ...]:
    if "sort" in page:
        if "sort_key" in page or "sort_dir" in page:
            raise Invalid("Old and new sorting syntax cannot be combined")
        parts = [item.partition(":") for item in page["sort"][-1].split(",")]
        return _distinct([_sort(key, direction or "desc") for key, _, direction in parts])
    keys, directions = page.get("sort_key", ["created_at"]), page.get("sort_dir", ["desc"])
    if len(directions) == 1:
        directions = directions * len(keys)
    if len(directions) != len(keys):
        raise Invalid("Number of sort dirs does not match the number of sort keys")
    return _distinct([_sort(key, direction) for key, direction in zip(keys, directions, strict=True)])


def _distinct(sorts: Sequence[Sort]) -> tuple[Sort, ...]:
    """A key that comes again changes nothing."""
    first: dict[str, Sort] = {}
    for sort in sorts:
        first.setdefault(sort.key, sort)
    return tuple(first.values())


def _sort(key: str, direction: str) -> Sort:
    key, direction = key.strip(), direction.strip()
    if key not in SORT_KEYS:
        raise Invalid(f"Invalid sort key: {key}. It must be one of the following: {', '.join(SORT_KEYS)}.")
    if direction not in ("asc", "desc"):
        raise Invalid(f"Invalid sort direction: {direction}")
    return Sort(key, direction == "desc")


def _one_of(value: str) -> tuple[str, ...]:
    """The values of `in:a,"b,c"`; any other text stands for itself."""
    if not value.startswith("in:"):
        return (value,)
    found: list[str] = []
    position = 3
    while True:
        match = _IN.match(value, position)
        if match is None or len(found) >= _MAX_VALUES:
            raise Invalid(f"Invalid filter value {value:.100}. The quote is not closed or there are too many values.")
        quoted, plain, separator = match.groups()
        found.append(plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        if not separator:
            return tuple(found)
        position = match.end()


def _integer(name: str, text: str, limit: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20 or int(text) > limit:
        raise Invalid(f"Invalid value '{text:.100}' for '{name}' filter: it must be a number from 0 to {limit}")
    return int(text)


def _time(name: str, value: str) -> TimeFilter:
    operator, separator, text = value.partition(":")
    if not separator or operator not in _OPERATORS:
        operator, text = "eq", value
    try:
        # In a query, the plus of a time zone is often left as it is and arrives as a blank.
        at_s = parse_iso(text.replace(" ", "+") if "T" in text else text)
    except (ValueError, OverflowError) as error:
        raise Invalid(f"Invalid time value {value:.100} for '{name}' filter") from error
    return TimeFilter(name, operator, float(at_s // 1))


def _flag(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise Invalid(f"Invalid value '{value:.100}' for '{name}' filter. Valid values are 'true' or 'false'.")
    return value.lower() == "true"


def _choice(value: str, choices: Sequence[str], what: str) -> str:
    if value not in list(choices):
        raise Invalid(f"Invalid {what}: {value:.100}")
    return value

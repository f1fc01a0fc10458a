"""Filters of identity's lists: `name=x`, `name__contains=x` and the like, and pages."""

from collections.abc import Collection, Iterable
from typing import Generic, TypeVar

from msgspec import Struct

from muster.base.errors import Invalid

Item = TypeVar("Item")

COMPARATORS = ("equals", "contains", "startswith", "endswith")
PAGE_LIMIT = 10_000

Value = str | bool | None


class Filter(Struct, frozen=True):
    """One condition on an attribute. `ignores_case` as in `name__icontains`."""

    attribute: str
    value: Value
    comparator: str = "equals"
    ignores_case: bool = False


class Page(Struct, frozen=True):
    """At most `limit` items behind the one whose id is `marker`, in the order of ids."""

    limit: int = PAGE_LIMIT
    marker: str | None = None


class Listing(Struct, Generic[Item], frozen=True):
    """Items of a page, and whether there are more behind them."""

    items: list[Item]
    has_more: bool = False


def parse_filters(
    query: Iterable[tuple[str, str]], texts: Collection[str], flags: Collection[str] = ()
) -> list[Filter]:
    """The filters of a query string on these attributes; other names are left to others."""
    filters = []
    for name, value in query:
        attribute, _, comparator = name.partition("__")
        if attribute in flags and not comparator:
            filters.append(Filter(attribute, parse_flag(value)))
        elif attribute in texts:
            if not comparator:
                filters.append(Filter(attribute, value))
            elif comparator.removeprefix("i") in COMPARATORS:
                filters.append(Filter(attribute, value, comparator.removeprefix("i"), comparator.startswith("i")))
    return filters


def parse_flag(value: str) -> bool:
    """A truth value in a query: everything but `0`, `false` (and, as Keystone has it, `False`) is true."""
    return value.strip().lower() not in {"0", "false"}


def parse_page(query: Iterable[tuple[str, str]]) -> Page:
    """The page that a query asks for. Raises Invalid for a limit that is no number from 1 on."""
    values = dict(query)
    limit = values.get("limit", str(PAGE_LIMIT))
    if not limit.isascii() or not limit.isdigit() or len(limit) > 9 or int(limit) < 1:
        raise Invalid("The limit must be a positive number")
    return Page(min(int(limit), PAGE_LIMIT), values.get("marker"))

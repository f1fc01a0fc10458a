"""Pages of lists as Nova cuts them: `limit`, `marker`, a link to the next page."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from muster.api.compute.bodies import unexpected
from muster.api.compute.fields import boolean
from muster.api.http.requests import Request
from muster.base.errors import Invalid

_STRICT = (2, 75)
PAGE_LIMIT = 1_000


class PageAsked(Struct, frozen=True):
    """What a request says of the page that it wants."""

    limit: int = PAGE_LIMIT
    marker: str | None = None


def asked(request: Request, *known: str) -> dict[str, str]:
    """The query by name; of a repeated name the last counts.

    Raises Invalid for text that no database holds and, from 2.75 on, for names other than `known`, if any are given.
    """
    found = dict(request.query)
    for name, value in found.items():
        if known and name not in known and request.version >= _STRICT:
            raise unexpected(name)
        if "\x00" in value:
            raise Invalid(f"Invalid input for query parameters {name}: NUL characters are not allowed.")
    return found


def page_asked(query: Mapping[str, str]) -> PageAsked:
    """The page that a query asks for, at most PAGE_LIMIT long. Raises Invalid."""
    limit = number(query, "limit")
    return PageAsked(min(limit or PAGE_LIMIT, PAGE_LIMIT), query.get("marker"))


def number(query: Mapping[str, str], name: str) -> int | None:
    """A number of a query, not negative; None if it is not there. Raises Invalid."""
    text = query.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        value = text[:80]
        raise Invalid(f"Invalid input for query parameters {name}. Value: {value}. '{value}' does not match '^[0-9]*$'")
    return int(text)


def truth(query: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """A truth value of a query, in any of the words that OpenStack takes. Raises Invalid."""
    return boolean(query.get(name, default), name)


def next_link(request: Request, collection: str, found: Sequence[Any], page: PageAsked, last: str) -> dict[str, Any]:
    """The link to the page behind this one, if this one is full; `last` is the marker."""
    if len(found) < page.limit:
        return {}
    rest = [(name, value) for name, value in request.query if name != "marker"]
    href = f"{request.base_url}{request.path}?{urlencode([*rest, ('marker', last)])}"
    return {f"{collection}_links": [{"rel": "next", "href": href}]}

"""Pages of lists as Nova cuts them: `limit`, `marker`, a link to the next page."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from muster.api.compute.queries import number
from muster.api.http.requests import Request

PAGE_LIMIT = 1_000


class PageAsked(Struct, frozen=True):
    """What a request says of the page that it wants."""

    limit: int = PAGE_LIMIT
    marker: str | None = None


def page_asked(query: Mapping[str, str]) -> PageAsked:
    """The page that a query asks for, at most PAGE_LIMIT long. Raises Invalid."""
    limit = number(query, "limit")
    return PageAsked(min(limit or PAGE_LIMIT, PAGE_LIMIT), query.get("marker"))


def next_link(request: Request, collection: str, found: Sequence[Any], page: PageAsked, last: str) -> dict[str, Any]:
    """The link to the page behind this one, if this one is full; `last` is the marker."""
    if len(found) < page.limit:
        return {}
    rest = [(name, value) for name, value in request.query if name != "marker"]
    href = f"{request.base_url}{request.path}?{urlencode([*rest, ('marker', last)])}"
    return {f"{collection}_links": [{"rel": "next", "href": href}]}

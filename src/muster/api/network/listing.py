"""Lists: the query string as a `ListQuery`, the chosen fields, and the links to the pages around (`ports_links`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.network.validators import boolean, to_integer
from muster.base.errors import NotFound
from muster.domain.network_errors import bad_request, invalid_input
from muster.domain.network_listing import Condition, ListQuery, Sort
from muster.domain.tag_filters import TAG_PARAMETERS, TagFilter, parse_tags

_PAGING = frozenset({"limit", "marker", "page_reverse", "sort_key", "sort_dir", "fields"})
_LIMIT = 2**31 - 1

Convert = Callable[[str], object]


class Filter(Struct, frozen=True):
    """How a parameter of the query becomes a condition: the domain's field, and what a value means."""

    field: str = ""
    convert: Convert = str


class Listing(Struct, frozen=True, kw_only=True):
    """How a kind of resource is listed. `sorts` maps the API's names to the domain's fields; an empty one is the same
    for all, which sorts nothing. `key` is the field of a view that tells items apart: what a marker names."""

    collection: str
    filters: Mapping[str, Filter]
    sorts: Mapping[str, str]
    # Filters of one parameter that holds pairs (`fixed_ips=ip_address=10.0.0.5`).
    pairs: Mapping[str, Mapping[str, str]] = {}
    has_tags: bool = True
    key: str = "id"


TEXT = Filter()
FLAG = Filter(convert=boolean)
NUMBER = Filter(convert=to_integer)
NULLABLE = Filter(convert=lambda value: None if value == "null" else value)


def read_query(request: Request, listing: Listing) -> ListQuery:
    """What the query string asks for. Raises Invalid for what cannot be filtered or sorted by, or is malformed."""
    grouped: dict[str, list[str]] = {}
    for name, value in request.query:
        if "\x00" in value or "\x00" in name:
            raise bad_request("The query string contains a NUL character")
        grouped.setdefault(name, []).append(value)
    marker = _last(grouped, "marker")
    return ListQuery(
        conditions=tuple(_conditions(grouped, listing)),
        tags=_tags(grouped, listing),
        sorts=_sorts(grouped, listing),
        limit=_limit(grouped),
        marker=marker or None,
        reverse=_last(grouped, "page_reverse").lower() == "true",
    )


def list_response(request: Request, listing: Listing, query: ListQuery, views: Sequence[dict[str, Any]]) -> Response:
    """The page with its links."""
    body: dict[str, Any] = {listing.collection: [chosen(request, view) for view in views]}
    if query.limit is not None:
        links = _links(request, query, [str(view[listing.key]) for view in views])
        body[f"{listing.collection}_links".replace("-", "_")] = links
    return Response(body)


def page_of(listing: Listing, query: ListQuery, views: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The page of a list that is no table: what matches, in order, behind the marker. Raises NotFound (the marker).

    `views` come in an order that is always the same; it decides between those that are equal in what is sorted by.
    """
    found = [view for view in views if all(view[one.field] in one.values for one in query.conditions)]
    for sort in reversed(query.sorts):
        found.sort(key=lambda view: str(view[sort.field]), reverse=sort.descending)
    if query.reverse:
        found.reverse()
    if query.marker is not None:
        keys = [view[listing.key] for view in found]
        if query.marker not in keys:
            raise NotFound(f"The marker {query.marker[:80]} could not be found.")
        found = found[keys.index(query.marker) + 1 :]
    found = found[: query.limit]
    return found[::-1] if query.reverse else found


def chosen(request: Request, view: dict[str, Any]) -> dict[str, Any]:
    """The fields that `fields=` names, or all."""
    if b"fields=" not in request.scope["query_string"]:
        return view
    names = {value for name, value in request.query if name == "fields" and value}
    return {name: value for name, value in view.items() if name in names} if names else view


def _conditions(grouped: Mapping[str, list[str]], listing: Listing) -> list[Condition]:
    conditions = []
    unknown = []
    for name, values in grouped.items():
        if name in _PAGING or (listing.has_tags and name in TAG_PARAMETERS):
            continue
        if name in listing.pairs:
            conditions += _pair_conditions(name, values, listing.pairs[name])
        elif name in listing.filters:
            wanted = listing.filters[name]
            conditions.append(Condition(wanted.field or name, _converted(name, values, wanted.convert)))
        else:
            unknown.append(name)
    if unknown:
        raise bad_request(f"{sorted(unknown)[:10]} is invalid attribute for filtering")
    return conditions


def _converted(name: str, values: Sequence[str], convert: Convert) -> tuple[object, ...]:
    try:
        found = tuple(convert(value) for value in values)
    except ValueError as error:
        raise invalid_input(f"{name}: {error}") from error
    if any(isinstance(value, int) and abs(value) > _LIMIT for value in found):
        return tuple(value for value in found if not isinstance(value, int) or abs(value) <= _LIMIT)
    return found


def _pair_conditions(name: str, values: Sequence[str], fields: Mapping[str, str]) -> list[Condition]:
    wanted: dict[str, list[str]] = {}
    for value in values:
        key, equals, rest = value.partition("=")
        if not equals or key not in fields:
            raise bad_request(f"Invalid input for {name}. Reason: '{value[:80]}' is not one of {sorted(fields)}=VALUE.")
        wanted.setdefault(fields[key], []).append(rest)
    return [Condition(field, tuple(found)) for field, found in wanted.items()]


def _tags(grouped: Mapping[str, list[str]], listing: Listing) -> TagFilter:
    """Of a repeated parameter all values count."""
    return parse_tags({name: ",".join(values) for name, values in grouped.items()}) if listing.has_tags else TagFilter()


def _sorts(grouped: Mapping[str, list[str]], listing: Listing) -> tuple[Sort, ...]:
    keys, directions = grouped.get("sort_key", []), grouped.get("sort_dir", [])
    if directions and len(keys) != len(directions):
        raise bad_request("The number of sort_keys and sort_dirs must be same")
    directions = directions or ["asc"] * len(keys)
    for direction in directions:
        if direction not in ("asc", "desc"):
            raise bad_request(f"{direction[:80]} is invalid value for sort_dirs, valid value is 'asc' and 'desc'")
    for key in keys:
        if key not in listing.sorts:
            raise bad_request(f"[{key[:80]!r}] is invalid attribute for sort keys")
    found: dict[str, Sort] = {}
    for key, direction in zip(keys, directions, strict=True):
        found.setdefault(key, Sort(listing.sorts[key], direction == "desc"))
    return tuple(sort for sort in found.values() if sort.field)


def _limit(grouped: Mapping[str, list[str]]) -> int | None:
    text = _last(grouped, "limit")
    if not text:
        return None
    try:
        limit = to_integer(text)
    except ValueError:
        limit = -1
    if limit < 0:
        raise bad_request(f"Limit must be an integer 0 or greater and not '{text[:80]}'")
    return min(limit, _LIMIT) or None


def _last(grouped: Mapping[str, list[str]], name: str) -> str:
    return grouped.get(name, [""])[-1]


def _links(request: Request, query: ListQuery, ids: Sequence[str]) -> list[dict[str, str]]:
    """As Neutron has them: a short page is the last in its direction; the other direction always has a link."""
    short = len(ids) < (query.limit or 0)
    links = []
    if not short or query.reverse:
        links.append({"rel": "next", "href": _href(request, ids[-1] if ids else None, reverse=False)})
    if not short or not query.reverse:
        links.append({"rel": "previous", "href": _href(request, ids[0] if ids else None, reverse=True)})
    return links


def _href(request: Request, marker: str | None, *, reverse: bool) -> str:
    pairs = [(name, value) for name, value in request.query if name not in ("marker", "page_reverse")]
    if marker is not None:
        pairs.append(("marker", marker))
    if reverse:
        pairs.append(("page_reverse", "True"))
    return f"{request.base_url}{request.path.rstrip('/')}?{urlencode(pairs)}"

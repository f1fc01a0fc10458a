"""Route tables: one dictionary per API maps method and path to a handler and the rule that guards it.

A path is matched segment by segment in a tree, so finding a route costs the depth of its path, not the number of
routes. A fixed segment wins over a parameter (`/servers/detail` over `/servers/{server_id}`).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.domain.policies import Rule

Handler = Callable[[Request], Awaitable[Response]]
Version = tuple[int, int]


class Route(Struct, frozen=True):
    """What answers a method on a path, and who may ask."""

    handler: Handler
    rule: Rule
    # The first and the last microversion that have this route, where the API has microversions; None for no bound.
    since: Version | None = None
    until: Version | None = None

    def offered(self, version: Version) -> bool:
        """Whether the route is there at all for a caller who speaks `version`."""
        return (self.since is None or self.since <= version) and (self.until is None or version <= self.until)


# ("GET", "/servers/{server_id}") -> Route
Routes = Mapping[tuple[str, str], Route]


class _Node:
    def __init__(self) -> None:
        self.fixed: dict[str, _Node] = {}
        self.parameter: tuple[str, _Node] | None = None
        self.methods: dict[str, Route] = {}


class Match(Struct, frozen=True):
    """What was found for a path: its methods, and the values of its parameters."""

    methods: Mapping[str, Route]
    parameters: dict[str, str]


class Router:
    """Finds the route for a path. `strict` tells a collection from a resource with an empty id (`/images/`)."""

    def __init__(self, routes: Routes, *, strict: bool = False) -> None:
        self._root = _Node()
        self._strict = strict
        for (method, path), route in routes.items():
            node = self._root
            for segment in _segments(path):
                node = _descend(node, segment)
            if method in node.methods:
                raise ValueError(f"{method} {path} is there twice")
            node.methods[method] = route

    def match(self, path: str) -> Match | None:
        """The methods of `path`, or None. A trailing slash matters only if `strict`, below the version."""
        parameters: dict[str, str] = {}
        segments = _segments(path)
        if self._strict and path.endswith("/") and len(segments) > 1:
            return None
        node = _walk(self._root, segments, 0, parameters)
        return Match(node.methods, parameters) if node else None


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment]


def _descend(node: _Node, segment: str) -> _Node:
    if not segment.startswith("{"):
        return node.fixed.setdefault(segment, _Node())
    name = segment[1:-1]
    if node.parameter is None:
        node.parameter = (name, _Node())
    elif node.parameter[0] != name:
        raise ValueError(f"one place in the path has two names: {name}, {node.parameter[0]}")
    return node.parameter[1]


def _walk(node: _Node, segments: list[str], index: int, parameters: dict[str, str]) -> Any:
    if index == len(segments):
        return node if node.methods else None
    segment = segments[index]
    if segment in node.fixed:
        found = _walk(node.fixed[segment], segments, index + 1, parameters)
        if found is not None:
            return found
    if node.parameter is not None:
        name, child = node.parameter
        parameters[name] = segment
        found = _walk(child, segments, index + 1, parameters)
        if found is not None:
            return found
        del parameters[name]
    return None

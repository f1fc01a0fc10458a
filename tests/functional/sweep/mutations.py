"""Valid JSON made invalid, one place at a time. Pure."""

import copy
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]

NASTY: tuple[Any, ...] = (
    None,
    -1,
    0,
    1,
    10**30,
    2**63,
    1e308,
    True,
    "",
    " ",
    "x" * 300,
    "x" * 70_000,
    "\x00",
    "\ud800",
    "💥",
    "null",
    "-1",
    "1" * 400,
    "٣",
    "1e5",
    "0x10",
    "../../etc/passwd",
    "10.0.0.0/33",
    "::/0",
    "0.0.0.0/0",
    "10.77.0.5",
    "00000000-0000-0000-0000-000000000000",
    "2020-01-01T00:00:00Z",
    "9999-99-99",
    "auto",
    "none",
    [],
    [[]],
    [None],
    [{}],
    ["x"] * 1_000,
    {},
    {"a": 1},
    {"": ""},
    {"id": "x"},
    {"id": None},
)


def mutations(body: Any) -> Iterator[Any]:
    """The body with each place in turn replaced by each nasty value, left out, or given a field that nobody knows."""
    for path in places(body):
        for value in NASTY:
            yield replaced(body, path, value)
        if path:
            yield without(body, path)
        found = at(body, path)
        if isinstance(found, dict):
            yield replaced(body, path, {**found, "no_such_field": 1})


def places(node: Any, path: Path = ()) -> Iterator[Path]:
    """The path of each value in a document, the document itself first."""
    yield path
    if isinstance(node, dict):
        for name, child in node.items():
            yield from places(child, (*path, name))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from places(child, (*path, index))


def at(node: Any, path: Path) -> Any:
    """The value at a path."""
    for step in path:
        node = node[step]
    return node


def replaced(node: Any, path: Path, value: Any) -> Any:
    """A copy of the document with another value at a path."""
    if not path:
        return value
    changed = copy.deepcopy(node)
    at(changed, path[:-1])[path[-1]] = value
    return changed


def without(node: Any, path: Path) -> Any:
    """A copy of the document without what is at a path."""
    changed = copy.deepcopy(node)
    del at(changed, path[:-1])[path[-1]]
    return changed

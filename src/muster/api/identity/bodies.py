"""Bodies of requests: one object under one key, known fields typed, other fields kept as Keystone keeps them.

Invariant: what comes out of here can be stored in any database and written as JSON again.
"""

import math
from typing import Any, TypeVar

import msgspec

from muster.api.http.requests import Request
from muster.base.errors import Invalid

Kind = TypeVar("Kind", bound=msgspec.Struct)

_MAX_DEPTH = 16
_MAX_INTEGER = 2**63 - 1
_OURS = {"id", "links"}


async def read_member(request: Request, name: str) -> dict[str, Any]:
    """The object under `name`, the body's one key. Raises Invalid, TooLarge."""
    body = await request.json(dict[str, Any])
    check(body)
    member = body.get(name)
    if not isinstance(member, dict):
        raise Invalid(f"'{name}' is a required property")
    return member


async def read_new(request: Request, name: str, kind: type[Kind]) -> Kind:
    """As `read_patch`, for something new: it needs a name. Raises Invalid, TooLarge."""
    member = await read_member(request, name)
    if "name" not in member:
        raise Invalid("'name' is a required property")
    return _patch(member, name, kind)


async def read_patch(request: Request, name: str, kind: type[Kind]) -> Kind:
    """The object under `name` as a patch, whose `extra` takes the fields that `kind` does not know.

    Raises Invalid, TooLarge.
    """
    return _patch(await read_member(request, name), name, kind)


def _patch(member: dict[str, Any], name: str, kind: type[Kind]) -> Kind:
    known = set(kind.__struct_fields__) - {"extra"}
    extra = {key: value for key, value in member.items() if key not in known | _OURS}
    return typed({**{key: member[key] for key in known & set(member)}, "extra": extra}, kind, name)


def typed(value: Any, kind: type[Kind], name: str) -> Kind:
    """A decoded value as a Struct. Raises Invalid naming the place and what is wrong with it, never the value."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"Invalid input for '{name}': {error}") from error


def check(value: Any, depth: int = 0) -> None:
    """Raise Invalid for what some database or encoder cannot take: NUL, huge numbers, infinity, deep nesting."""
    if depth > _MAX_DEPTH:
        raise Invalid("The request's body is nested too deeply")
    if isinstance(value, str):
        check_text(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            check_text(key)
            check(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            check(inner, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise Invalid("The request's body holds a number that is not finite")
    elif isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise Invalid("The request's body holds a number beyond 64 bits")


def check_text(text: str) -> None:
    """Raise Invalid for text with NUL or with half of a surrogate pair."""
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text if character > "\ud7ff"):
        raise Invalid("The request holds a character that is not allowed")

"""Changes of an image as a JSON patch: parsed into a list of changes, then applied to a value, all or none.

Source: RFC 6902 in the two dialects of the Image service API (`application/openstack-images-v2.1-json-patch` and its
predecessor 2.0, which names the operation by its key).
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from muster.base.errors import Conflict, Forbidden, Invalid
from muster.domain.context import Context
from muster.domain.image_attributes import RESERVED, SETTABLE, check_settable, checked
from muster.domain.images import Image, Status, check_publishable

_FORMATS = ("disk_format", "container_format")
_MAX_CHANGES = 1_000


class Operation(StrEnum):
    """What a change does."""

    ADD = "add"
    REPLACE = "replace"
    REMOVE = "remove"


class Change(Struct, frozen=True):
    """One change of an attribute or property; its value is checked."""

    operation: Operation
    name: str
    value: Any = None


def parse_patch(body: Any, *, dialect: str) -> list[Change]:
    """The changes that a body asks for; `dialect` is "2.0" or "2.1". Raises Invalid, Forbidden (read-only)."""
    if not isinstance(body, list):
        raise Invalid("Request body must be a JSON array of operation objects.")
    if len(body) > _MAX_CHANGES:
        raise Invalid(f"At most {_MAX_CHANGES} operations may be given at once.")
    return [_change(item, dialect) for item in body]


def patched(image: Image, changes: Sequence[Change], context: Context) -> Image:
    """The image with all changes. Raises Forbidden (not the caller's to change), Conflict (nothing to replace)."""
    for change in changes:
        image = _apply(image, change, context)
    return image


def _change(item: Any, dialect: str) -> Change:
    if not isinstance(item, dict):
        raise Invalid("Operations must be JSON objects.")
    operation, path = _operation_2_0(item) if dialect == "2.0" else _operation_2_1(item)
    name = _attribute(path)
    check_settable([name])
    if operation is Operation.REMOVE:
        return Change(operation, name)
    if "value" not in item:
        raise Invalid(f'Operation "{operation}" requires a member named "value".')
    return Change(operation, name, checked(name, item["value"]))


def _operation_2_0(item: Mapping[str, Any]) -> tuple[Operation, Any]:
    named = [operation for operation in Operation if operation in item]
    if len(named) != 1:
        raise Invalid('Operation objects must contain exactly one member named "add", "remove", or "replace".')
    return named[0], item[named[0]]


def _operation_2_1(item: Mapping[str, Any]) -> tuple[Operation, Any]:
    for member in ("op", "path"):
        if member not in item:
            raise Invalid(f"Unable to find '{member}' in JSON Schema change")
    if item["op"] not in [str(operation) for operation in Operation]:
        raise Invalid('Operation objects must contain exactly one member named "add", "remove", or "replace".')
    return Operation(item["op"]), item["path"]


def _attribute(pointer: Any) -> str:
    """The name in a JSON pointer (RFC 6901) of one token. Raises Invalid."""
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        raise Invalid(f'Pointer `{pointer!s:.300}` does not start with "/".')
    token = pointer[1:]
    if "~" in token.replace("~0", "").replace("~1", ""):
        raise Invalid(f'Pointer `{pointer:.300}` contains "~" not part of a recognized escape sequence.')
    first = token.partition("/")[0]
    if first in RESERVED:
        check_settable([first])
    if not token or "/" in token:
        raise Invalid(f"Invalid JSON pointer for this resource: '{pointer:.300}'")
    return token.replace("~1", "/").replace("~0", "~")


def _apply(image: Image, change: Change, context: Context) -> Image:
    if change.name in SETTABLE:
        if change.operation is Operation.REMOVE:
            raise Forbidden(f"Property {change.name} may not be removed.")
        _check_allowed(image, change, context)
        return replace(image, **{change.name: change.value})
    if change.operation is not Operation.ADD and change.name not in image.properties:
        raise Conflict(f"Property {change.name} does not exist.")
    properties = {name: value for name, value in image.properties.items() if name != change.name}
    if change.operation is not Operation.REMOVE:
        properties[change.name] = change.value
    return replace(image, properties=properties)


def _check_allowed(image: Image, change: Change, context: Context) -> None:
    if change.name == "owner" and not context.is_admin:
        raise Forbidden("Owner can't be updated by non admin.")
    if change.name == "visibility" and change.value is not image.visibility:
        check_publishable(context, change.value)
    if change.name in _FORMATS and image.status is not Status.QUEUED and change.value != getattr(image, change.name):
        raise Forbidden(f"Attribute {change.name} can be only replaced for a queued image.")

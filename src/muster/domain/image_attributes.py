"""Which values an image's attributes may take, and which attributes a request may set at all.

Invariant: a value that passes here fits its column, whatever the database. Messages are those of the Image service's
JSON schema where its clients show them.
"""

import re
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any

from msgspec import Struct

from muster.base.errors import Forbidden, Invalid, TooLarge
from muster.domain.images import CONTAINER_FORMATS, DISK_FORMATS, Image, ImageSettings, Visibility

_MADE_BY_SERVICE = frozenset({"status", "created_at", "updated_at", "checksum", "os_hash_algo", "os_hash_value"})
_DERIVED = frozenset({"size", "virtual_size", "direct_url", "self", "file", "schema", "stores"})
READ_ONLY = _MADE_BY_SERVICE | _DERIVED | {"id"}
RESERVED = frozenset({"deleted", "deleted_at", "location", "locations"})
RESERVED_PREFIX = "os_glance"
_TEXTS = frozenset({"name", "owner", "visibility", "disk_format", "container_format", "tags"})
# The attributes of an image that a request may set; every other name is a property.
SETTABLE = _TEXTS | {"min_disk", "min_ram", "protected", "os_hidden"}

_NAME_LENGTH = 255
_VALUE_LENGTH = 65_535
_INTEGER_LIMIT = (1 << 31) - 1
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


class Draft(Struct, frozen=True, kw_only=True):
    """What a request for a new image asks for. `fields` are attributes of Image with their checked values."""

    id: str | None
    fields: Mapping[str, Any]
    properties: Mapping[str, str]


def parse_draft(body: Mapping[str, Any]) -> Draft:
    """A request for a new image. Raises Invalid for a wrong value, Forbidden for an attribute that cannot be set."""
    check_settable(body, READ_ONLY - {"id"})
    fields = {name: checked(name, value) for name, value in body.items() if name in SETTABLE}
    others = {name: checked(name, value) for name, value in body.items() if name not in SETTABLE and name != "id"}
    image_id = checked_id(body["id"]) if body.get("id") is not None else None
    return Draft(id=image_id, fields=fields, properties=others)


def check_settable(names: Collection[str], read_only: Collection[str] = READ_ONLY) -> None:
    """Raises Forbidden for an attribute that is set by the service alone."""
    for name in names:
        if name in read_only:
            raise Forbidden(f"Attribute '{name}' is read-only.")
        if name in RESERVED or name.startswith(RESERVED_PREFIX):
            raise Forbidden(f"Attribute '{name}' is reserved.")


def checked(name: str, value: Any) -> Any:
    """The value of an attribute or property as Image holds it. Raises Invalid."""
    if name in _CHECKS:
        return _CHECKS[name](name, value)
    if not name or not is_storable(name):
        raise mismatch(f"{name!r} is not a valid name of a property")
    if len(name) > _NAME_LENGTH:
        raise Invalid("Custom property should not be greater than 255 characters.")
    return _text(name, value, _VALUE_LENGTH)


def checked_id(value: Any) -> str:
    """A new image's id. Raises Invalid unless it is a UUID."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise mismatch(f"{value!r} is not a valid id")
    return str(uuid.UUID(value))


def checked_tag(value: Any) -> str:
    """A tag. Raises Invalid."""
    return _text("tags", value, _NAME_LENGTH)


def check_amounts(image: Image, settings: ImageSettings) -> None:
    """Raises TooLarge for more properties or tags than an image may have."""
    for kind, number, limit in (
        ("image properties", len(image.properties), settings.property_limit),
        ("image tags", len(image.tags), settings.tag_limit),
    ):
        if number > limit:
            raise TooLarge(
                f"The limit has been exceeded on the number of allowed {kind}. Attempted: {number}, Maximum: {limit}"
            )


def is_storable(text: str) -> bool:
    """Whether every database can hold the text: no NUL, no lone half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def mismatch(reason: str) -> Invalid:
    """A value is not as the schema of an image says."""
    return Invalid(f"Provided object does not match schema 'image': {reason}")


def _text(name: str, value: Any, limit: int) -> str:
    if not isinstance(value, str):
        raise mismatch(f"{value!r:.100} is not of type 'string' (in '{name}')")
    if len(value) > limit:
        raise mismatch(f"the value of '{name}' is too long; at most {limit} characters")
    if not is_storable(value):
        raise mismatch(f"the value of '{name}' has characters that cannot be stored")
    return value


def _nullable_text(name: str, value: Any) -> str | None:
    return None if value is None else _text(name, value, _NAME_LENGTH)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise mismatch(f"{value!r:.100} is not of type 'integer' (in '{name}')")
    if not 0 <= value <= _INTEGER_LIMIT:
        raise Invalid(f"Invalid value for option {name}: must be between 0 and {_INTEGER_LIMIT}")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise mismatch(f"{value!r:.100} is not of type 'boolean' (in '{name}')")
    return value


def _one_of(choices: Collection[str]) -> Callable[[str, Any], str | None]:
    def check(name: str, value: Any) -> str | None:
        if value is not None and value not in list(choices):
            raise mismatch(f"{value!r:.100} is not one of {', '.join(choices)} (in '{name}')")
        return value if value is None else str(value)

    return check


def _visibility(name: str, value: Any) -> Visibility:
    choices = [str(one) for one in Visibility]
    if value not in choices:
        raise mismatch(f"{value!r:.100} is not one of {', '.join(choices)} (in '{name}')")
    return Visibility(value)


def _tags(_name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise mismatch(f"{value!r:.100} is not of type 'array' (in 'tags')")
    return tuple(sorted({checked_tag(tag) for tag in value}))


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "name": _nullable_text,
    "owner": _nullable_text,
    "visibility": _visibility,
    "disk_format": _one_of(DISK_FORMATS),
    "container_format": _one_of(CONTAINER_FORMATS),
    "min_disk": _integer,
    "min_ram": _integer,
    "protected": _flag,
    "os_hidden": _flag,
    "tags": _tags,
}

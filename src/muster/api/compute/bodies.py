"""Bodies as Nova judges them: typed, nothing unknown, each field from its microversion on; and the types they share.

A body is a msgspec Struct with `forbid_unknown_fields`. Whatever is wrong with it is a 400 that names the place.
"""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct

from muster.api.http.requests import Request
from muster.base.errors import Invalid

Body = TypeVar("Body")
Version = tuple[int, int]

# From which microversion a field is taken, and up to which (None: still).
Spans = Mapping[str, tuple[Version, Version | None]]

Uuid = Annotated[str, Meta(pattern=r"\A[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=255)]
Description = Annotated[str, Meta(max_length=255)]
Tag = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"\A[^,/]*\Z")]
Metadata = dict[
    Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\A[a-zA-Z0-9_:. -]+\Z")],
    Annotated[str, Meta(max_length=255)],
]
Hostname = Annotated[str, Meta(min_length=2, max_length=255, pattern=r"\A[a-zA-Z0-9][a-zA-Z0-9.-]*[a-zA-Z0-9]\Z")]
HostLabel = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"\A[a-zA-Z0-9._-]+\Z")]
DiskConfig = Literal["AUTO", "MANUAL"]
Count = Annotated[int, Meta(ge=1)] | Annotated[str, Meta(pattern=r"\A[0-9]{1,9}\Z")]
# The words that Nova takes for a truth value where it judges by a schema; `fields.boolean` is its value.
Truth = (
    bool
    | Literal["True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes"]
    | Literal["False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no"]
)

_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_PLACE = re.compile(r" - at (?:`key` in )?`\$\.?(.*)`\Z")


async def parse(request: Request, kind: type[Body], *, strict: bool = True) -> Body:
    """The request's body as a `kind`. Raises Invalid in Nova's words, TooLarge."""
    return decode(await request.body(), kind, strict=strict)


def decode(data: bytes, kind: type[Body], *, strict: bool = True) -> Body:
    """JSON as a `kind`; without `strict`, "2" is taken for 2 as Nova does in places. Raises Invalid."""
    try:
        if b"\\u0000" in data and _has_nul(msgspec.json.decode(data)):
            raise Invalid("Malformed request body: text may not contain NUL characters.")
        return msgspec.json.decode(data, type=kind, strict=strict)
    except msgspec.ValidationError as error:
        raise Invalid(_in_words(str(error))) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Invalid("Malformed request body: it is not valid JSON.") from error


def check_versions(part: Struct, spans: Spans, version: Version) -> None:
    """Raises Invalid if a field is set that this microversion does not know."""
    for field, (since, until) in spans.items():
        known = since <= version and (until is None or version <= until)
        if not known and getattr(part, field, UNSET) is not UNSET:
            raise unexpected(field)


def unexpected(field: str) -> Invalid:
    """What Nova says of a property that it does not know."""
    return Invalid(f"Additional properties are not allowed ('{field[:80]}' was unexpected)")


def check_address(text: str, version: int, field: str) -> None:
    """Raises ValueError unless the text is an address of this IP version."""
    kind = IPv4Address if version == 4 else IPv6Address
    if not isinstance(_address(text), kind):
        raise ValueError(f"{field}: '{text}' is not a 'ipv{version}'")


def check_any_address(text: str, field: str) -> None:
    """Raises ValueError unless the text is an IP address."""
    if _address(text) is None:
        raise ValueError(f"{field}: '{text}' is not an IP address")


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return None if "%" in text else ip_address(text)
    except ValueError:
        return None


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in key or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_nul(item) for item in value)


def _in_words(text: str) -> str:
    """msgspec's words in the form of Nova's; only for people, nothing is decided by them."""
    place = _PLACE.search(text)
    what = text[: place.start()] if place else text
    if match := _UNKNOWN.fullmatch(what):
        return f"Additional properties are not allowed ('{match[1]}' was unexpected)"
    return f"Invalid input for field/attribute {place[1] or 'body'}. {what}" if place else f"Invalid input: {what}"

"""What a cloud's refusals say: as errors, as text, and as text that is the same for everyone who met the same fault."""

import re

import msgspec

from muster.base.errors import Conflict, Forbidden, Invalid, MusterError, NotFound, Transient, Unauthenticated
from muster.client.http_connection import Response

_ERRORS: dict[int, type[MusterError]] = {401: Unauthenticated, 403: Forbidden, 404: NotFound, 409: Conflict}
_LONGEST_MESSAGE = 300
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_LONG_HEX = re.compile(r"\b(?:req-)?[0-9a-f]{32}\b", re.IGNORECASE)
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b")


class _NeutronError(msgspec.Struct):
    type: str = ""


class _NeutronFault(msgspec.Struct, rename={"error": "NeutronError"}):
    error: _NeutronError


def refusal(what: str, response: Response) -> MusterError:
    """The error for a status that is none of success, with what the cloud says about it."""
    text = f"{what}: HTTP {response.status}: {message_of(response.body)}"
    if response.status in _ERRORS:
        return _ERRORS[response.status](text)
    if response.status in (413, 429) or response.status >= 500 or response.status < 400:
        return Transient(text, code="client.status")
    return Invalid(text)


def message_of(body: bytes) -> str:
    """What an error body says: `{"badRequest": {"message": ...}}` and the like, else the text itself, shortened."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return body.decode("utf-8", "replace")[:_LONGEST_MESSAGE]
    inner = next(iter(found.values()), None) if isinstance(found, dict) else None
    for candidate in (inner, found):
        if isinstance(candidate, dict) and isinstance(candidate.get("message"), str):
            return str(candidate["message"])[:_LONGEST_MESSAGE]
    return body.decode("utf-8", "replace")[:_LONGEST_MESSAGE]


def neutron_type(body: bytes) -> str:
    """Which of Neutron's errors a body tells of: `{"NeutronError": {"type": ...}}`; empty for anything else."""
    try:
        return msgspec.json.decode(body, type=_NeutronFault).error.type
    except (msgspec.DecodeError, msgspec.ValidationError):
        return ""


def anonymous(text: str) -> str:
    """The text without what differs from server to server: UUIDs, request ids, IPv4 addresses."""
    return _ADDRESS.sub("<address>", _LONG_HEX.sub("<id>", _UUID.sub("<id>", text)))

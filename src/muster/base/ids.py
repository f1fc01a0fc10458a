"""Identifiers. Every id that a user sees is a UUID in its canonical text form, except where OpenStack uses another."""

import re
import secrets
import uuid

_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)


def new_uuid() -> str:
    """A random UUID (RFC 9562 version 4) in canonical form."""
    return str(uuid.uuid4())


def new_hex() -> str:
    """A random UUID without hyphens, the form that Keystone uses for projects, users, roles and domains."""
    return uuid.uuid4().hex


def new_request_id() -> str:
    """The id of one API request, in the form that OpenStack's clients print."""
    return "req-" + str(uuid.uuid4())


def new_secret(n_bytes: int = 32) -> str:
    """A random secret, safe in URLs and shells."""
    return secrets.token_urlsafe(n_bytes)


def is_uuid(text: str) -> bool:
    """Whether `text` is a UUID, with or without hyphens."""
    return _UUID.fullmatch(text) is not None

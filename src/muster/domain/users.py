"""Users. A password's hash is not part of the value: it never leaves the store but for checking a password."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

# The attributes by which lists of them are filtered.
USER_FILTERS = ("id", "name", "domain_id", "default_project_id")


class User(Struct, frozen=True, kw_only=True):
    """A user; `extra` holds attributes that Keystone keeps without knowing them (`email`, `description`)."""

    id: str
    name: str
    domain_id: str
    enabled: bool = True
    default_project_id: str | None = None
    options: Mapping[str, Any] = {}
    extra: Mapping[str, Any] = {}
    created_at_s: float = 0.0


class Login(Struct, frozen=True):
    """A user and the hash to check a password against; None where the user has no password."""

    user: User
    password_hash: str | None

    def __repr__(self) -> str:
        return f"Login({self.user.id})"

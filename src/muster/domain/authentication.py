"""Authentication: what somebody shows for who they are, and the scope they ask for."""

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any

from msgspec import Struct


class DomainName(Struct, frozen=True):
    """A domain by its id or by its name; one of them is set."""

    id: str | None = None
    name: str | None = None


class Named(Struct, frozen=True):
    """A user or a project by its id, or by its name and domain."""

    id: str | None = None
    name: str | None = None
    domain: DomainName = DomainName()


class PasswordProof(Struct, frozen=True):
    """A user and the password."""

    user: Named
    password: str

    def __repr__(self) -> str:
        return "PasswordProof(...)"


class TokenProof(Struct, frozen=True):
    """A token that is still valid."""

    token: str

    def __repr__(self) -> str:
        return "TokenProof(...)"


class CredentialProof(Struct, frozen=True):
    """An application credential by its id, or by its name and user; and its secret."""

    id: str | None
    name: str | None
    user: Named
    secret: str

    def __repr__(self) -> str:
        return "CredentialProof(...)"


Proof = PasswordProof | TokenProof | CredentialProof


class ScopeKind(Enum):
    """What a token can be scoped to. DEFAULT is the user's default project where that works, else nothing."""

    DEFAULT = "default"
    UNSCOPED = "unscoped"
    PROJECT = "project"
    DOMAIN = "domain"
    SYSTEM = "system"


class ScopeAsk(Struct, frozen=True):
    """The scope somebody asks for; `target` names the project or domain."""

    kind: ScopeKind = ScopeKind.DEFAULT
    target: Named = Named()


class AuthenticationAsk(Struct, frozen=True):
    """One request for a token: every proof must hold, and all must be about the same user."""

    proofs: tuple[Proof, ...]
    scope: ScopeAsk


METHODS = ("password", "token", "application_credential")


def satisfies_rules(options: Mapping[str, Any], methods: Collection[str]) -> bool:
    """Whether the methods used are enough for a user's multi-factor rules (Keystone's `multi_factor_auth_*`).

    Rules that name a method that is not offered are ignored; without any rule left, every method is enough.
    """
    if not options.get("multi_factor_auth_enabled"):
        return True
    rules = [rule for rule in options.get("multi_factor_auth_rules") or [] if set(rule) <= set(METHODS) and rule]
    return not rules or any(set(rule) <= set(methods) for rule in rules)

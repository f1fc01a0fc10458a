"""The body of `POST /v3/auth/tokens`: proofs and scope, parsed into what the service takes."""

from typing import Any

from msgspec import Struct, field

from muster.api.http.requests import Request
from muster.api.identity.bodies import read_member, typed
from muster.base.errors import Invalid, Unauthenticated
from muster.domain.authentication import (
    AuthenticationAsk,
    CredentialProof,
    DomainName,
    Named,
    PasswordProof,
    Proof,
    ScopeAsk,
    ScopeKind,
    TokenProof,
)


class _Domain(Struct):
    id: str | None = None
    name: str | None = None


class _Owned(Struct):
    """A user or project: by id, or by name and domain."""

    id: str | None = None
    name: str | None = None
    domain: _Domain | None = None


class _User(_Owned):
    password: str | None = None


class _Password(Struct):
    user: _User


class _Token(Struct):
    id: str


class _Credential(Struct):
    secret: str
    id: str | None = None
    name: str | None = None
    user: _Owned | None = None


class _Identity(Struct):
    methods: list[str]
    password: _Password | None = None
    token: _Token | None = None
    application_credential: _Credential | None = None


class _System(Struct):
    all: bool = False


class _Scope(Struct):
    project: _Owned | None = None
    domain: _Domain | None = None
    system: _System | None = None
    unscoped: dict[str, Any] | None = None
    trust: Any = field(default=None, name="OS-TRUST:trust")


class _Auth(Struct):
    identity: _Identity
    scope: _Scope | str | None = None


async def read_ask(request: Request) -> AuthenticationAsk:
    """What somebody asks for and proves. Raises Invalid, TooLarge, and Unauthenticated for a method not offered."""
    auth = typed(await read_member(request, "auth"), _Auth, "auth")
    methods = list(dict.fromkeys(auth.identity.methods))
    if not methods:
        raise Unauthenticated("An authentication method is required")
    proofs = tuple(_proof(auth.identity, method) for method in methods)
    return AuthenticationAsk(proofs, _scope(auth.scope))


def _proof(identity: _Identity, method: str) -> Proof:
    if method == "password" and identity.password is not None:
        user = identity.password.user
        return PasswordProof(_named(user, "user"), user.password or "")
    if method == "token" and identity.token is not None:
        return TokenProof(identity.token.id)
    if method == "application_credential" and identity.application_credential is not None:
        return _credential(identity.application_credential)
    if method in {"password", "token", "application_credential"}:
        raise Invalid(f"Expecting to find {method} in identity")
    raise Unauthenticated("Attempted to authenticate with an unsupported method.")


def _credential(body: _Credential) -> CredentialProof:
    if body.id is not None:
        return CredentialProof(body.id, None, Named(), body.secret)
    if body.name is None or body.user is None:
        raise Invalid("Expecting to find id, or name and user, in application_credential")
    return CredentialProof(None, body.name, _named(body.user, "user"), body.secret)


def _scope(scope: _Scope | str | None) -> ScopeAsk:
    if scope is None:
        return ScopeAsk()
    if isinstance(scope, str):
        if scope != "unscoped":
            raise Invalid("The scope must be an object or 'unscoped'")
        return ScopeAsk(ScopeKind.UNSCOPED)
    if scope.trust is not None:
        raise Invalid("Trusts are not offered")
    asks = []
    if scope.project is not None:
        asks.append(ScopeAsk(ScopeKind.PROJECT, _named(scope.project, "project")))
    if scope.domain is not None:
        asks.append(ScopeAsk(ScopeKind.DOMAIN, _named_domain(scope.domain)))
    if scope.system is not None:
        if not scope.system.all:
            raise Invalid("The system can only be had as a whole")
        asks.append(ScopeAsk(ScopeKind.SYSTEM))
    if scope.unscoped is not None:
        asks.append(ScopeAsk(ScopeKind.UNSCOPED))
    if len(asks) > 1:
        raise Invalid("A token has one scope")
    return asks[0] if asks else ScopeAsk()


def _named(body: _Owned, what: str) -> Named:
    if body.id is not None:
        return Named(id=body.id)
    if body.name is None:
        raise Invalid(f"Expecting to find id or name in {what}")
    if body.domain is None or (body.domain.id is None and body.domain.name is None):
        raise Invalid(f"Expecting to find domain in {what}")
    return Named(name=body.name, domain=DomainName(body.domain.id, body.domain.name))


def _named_domain(body: _Domain) -> Named:
    if body.id is None and body.name is None:
        raise Invalid("Expecting to find id or name in domain")
    return Named(id=body.id, name=body.name)

"""Tokens: issued for proofs of identity, described, revoked.

Invariant: a token's epoch is read before anything that its rights rest on. Whatever is taken away later has a higher
number and voids the token, even if it happens while a password is being checked.
"""

import secrets
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from muster.base.clock import Clock
from muster.base.errors import NotFound, Unauthenticated
from muster.base.log import get_logger
from muster.domain import revocations as subjects
from muster.domain.application_credentials import ApplicationCredential
from muster.domain.assignments import Target, TargetKind
from muster.domain.authentication import (
    AuthenticationAsk,
    CredentialProof,
    PasswordProof,
    Proof,
    ScopeAsk,
    ScopeKind,
    TokenProof,
    satisfies_rules,
)
from muster.domain.catalog import CatalogService, Endpoint
from muster.domain.projects import Project
from muster.domain.tokens import Token, subjects_of
from muster.domain.users import User
from muster.services.passwords import Passwords
from muster.services.revocations import Revocations
from muster.services.rights import read_targets
from muster.services.scopes import Scope, find_login, read_credential, resolve_credential_scope, resolve_scope
from muster.services.token_authority import TokenAuthority
from muster.services.token_views import TokenView, deny, describe
from muster.store import application_credentials as credential_store
from muster.store import catalog as catalog_store
from muster.store import projects as project_store
from muster.store import revocations as revocation_store
from muster.store import users as user_store
from muster.store.engine import Connection, Database

log = get_logger(__name__)

LIFETIME_S = 3_600.0


class Issued(Struct, frozen=True):
    """A new token."""

    text: str
    view: TokenView

    def __repr__(self) -> str:
        return "Issued(...)"


class Reach(Struct, frozen=True):
    """All that a user could get a token for."""

    projects: list[Project]
    domains: list[Project]
    system: bool


class _Found(Struct, frozen=True, kw_only=True):
    """What the database holds about one proof; `secret` must match `secret_hash` where there is one to check."""

    user_id: str | None
    method: str
    secret: str | None = None
    secret_hash: str | None = None
    parent: Token | None = None
    credential_id: str | None = None

    def __repr__(self) -> str:
        return f"_Found({self.method})"


class _Basis(Struct, frozen=True, kw_only=True):
    """What a new token is made of, once all proofs hold."""

    user_id: str
    epoch: int
    methods: tuple[str, ...]
    parent: Token | None
    credential_id: str | None


class Tokens:
    """Use cases about tokens. `lifetime_s` is how long a token lives."""

    def __init__(
        self,
        db: Database,
        authority: TokenAuthority,
        revocations: Revocations,
        passwords: Passwords,
        clock: Clock,
        *,
        lifetime_s: float = LIFETIME_S,
    ) -> None:
        self._db = db
        self._authority = authority
        self._revocations = revocations
        self._passwords = passwords
        self._clock = clock
        self._lifetime_s = lifetime_s

    async def issue(self, ask: AuthenticationAsk) -> Issued:
        """A token for whoever proves to be somebody, in the scope asked for.

        Raises Unauthenticated, the same for every reason, and Transient when too many passwords wait. Two read
        transactions of about 15 queries together, and one run of Argon2id per password or secret.
        """
        async with self._db.read() as connection:
            epoch = await revocation_store.read_clock(connection)
            found = [await self._look_up(connection, proof) for proof in ask.proofs]
        basis = await self._prove(found, epoch)
        async with self._db.read() as connection:
            token = await self._make(connection, basis, ask.scope)
            view = await describe(connection, token)
        log.info("token issued", action="identity.token_issued", user_id=basis.user_id, methods=basis.methods)
        return Issued(self._authority.seal(token), view)

    async def show(self, text: str) -> TokenView:
        """A valid token with its names. Raises NotFound if it is not valid. Up to seven queries."""
        token = self.subject(text)
        async with self._db.read() as connection:
            try:
                return await describe(connection, token)
            except Unauthenticated as error:  # what it is about went a moment ago
                raise NotFound("Could not find token.") from error

    def subject(self, text: str) -> Token:
        """What a token says that somebody asks about. Raises NotFound if it is not valid. Reads memory only."""
        try:
            return self._authority.token(text)
        except Unauthenticated as error:
            raise NotFound("Could not find token.") from error

    async def revoke(self, text: str) -> None:
        """Void a token. Raises NotFound if it is not valid. One transaction, shared with others."""
        await self._revocations.revoke(subjects.of_token(self.subject(text).audit_ids[0]))

    async def reach(self, user_id: str, *, with_disabled: bool = False) -> Reach:
        """Where a user has a role; without `with_disabled`, what tokens could be had for. Up to five queries."""
        async with self._db.read() as connection:
            targets = await read_targets(connection, user_id)
            found = await project_store.read(connection, [target.id for target in targets if target.id])
            above = await project_store.read(connection, {one.domain_id for one in found.values() if one.domain_id})
        domains = found | above
        places = [
            one for one in found.values() if with_disabled or (one.enabled and domains[one.domain_id or one.id].enabled)
        ]
        return Reach(
            projects=[one for one in places if not one.is_domain],
            domains=[one for one in places if one.is_domain],
            system=Target(TargetKind.SYSTEM) in targets,
        )

    async def catalog(self) -> tuple[list[CatalogService], list[Endpoint]]:
        """All services and endpoints. Two queries."""
        async with self._db.read() as connection:
            return await catalog_store.read_all(connection)

    async def _look_up(self, connection: Connection, proof: Proof) -> _Found:
        if isinstance(proof, TokenProof):
            return await self._look_up_token(connection, proof)
        if isinstance(proof, PasswordProof):
            login = await find_login(connection, proof.user)
            return _Found(
                user_id=login.user.id if login else None,
                method="password",
                secret=proof.password,
                secret_hash=login.password_hash if login else None,
            )
        return await _look_up_credential(connection, proof)

    async def _look_up_token(self, connection: Connection, proof: TokenProof) -> _Found:
        token = self._authority.token(proof.token)
        # Memory may not know yet what another process revoked. A new token has a new epoch, so ask the database.
        if await revocation_store.is_revoked(connection, subjects_of(token), token.epoch):
            deny("token revoked", token.user_id)
        credential_id = token.application_credential_id
        return _Found(user_id=token.user_id, method="token", parent=token, credential_id=credential_id)

    async def _prove(self, found: Sequence[_Found], epoch: int) -> _Basis:
        proven = True
        for one in found:
            if one.secret is not None:
                proven &= await self._passwords.verify(one.secret_hash, one.secret)
        user_id = found[0].user_id
        if user_id is None or not proven or any(one.user_id != user_id for one in found):
            deny("wrong password or secret", user_id)
        parents = [one.parent for one in found if one.parent is not None]
        credential_ids = {one.credential_id for one in found if one.credential_id is not None}
        if len(parents) > 1 or len(credential_ids) > 1:
            deny("more than one token or application credential", user_id)
        methods = [*(method for parent in parents for method in parent.methods), *(one.method for one in found)]
        return _Basis(
            user_id=user_id,
            epoch=epoch,
            methods=tuple(dict.fromkeys(methods)),
            parent=parents[0] if parents else None,
            credential_id=credential_ids.pop() if credential_ids else None,
        )

    async def _make(self, connection: Connection, basis: _Basis, ask: ScopeAsk) -> Token:
        now = self._clock()
        user = (await user_store.read(connection, [basis.user_id])).get(basis.user_id)
        if user is None or not user.enabled or not satisfies_rules(user.options, basis.methods):
            deny("the user is disabled or gone, or must use more methods", basis.user_id)
        credential = await read_credential(connection, basis.credential_id) if basis.credential_id else None
        if credential is None:
            scope = await resolve_scope(connection, user, ask)
        elif _fits(ask, credential):
            scope = await resolve_credential_scope(connection, credential, user, now)
        else:
            deny("an application credential has but one scope", user.id)
        ends = [now + self._lifetime_s]
        ends += [basis.parent.expires_at_s] if basis.parent else []
        ends += [credential.expires_at_s] if credential and credential.expires_at_s else []
        token = _token(basis, user, scope, (now, min(ends)))
        if credential is None:
            return token
        return replace(token, application_credential_id=credential.id, restricted=not credential.unrestricted)


def _token(basis: _Basis, user: User, scope: Scope, life: tuple[float, float]) -> Token:
    chain = basis.parent.audit_ids[-1:] if basis.parent else ()
    project, domain = scope.project, scope.domain
    return Token(
        user_id=user.id,
        user_name=user.name,
        user_domain_id=user.domain_id,
        methods=basis.methods,
        audit_ids=(secrets.token_urlsafe(16), *chain),
        issued_at_s=life[0],
        expires_at_s=life[1],
        epoch=basis.epoch,
        roles=tuple(role.name for role in scope.roles),
        project_id=project.id if project else None,
        project_name=project.name if project else "",
        project_domain_id=(project.domain_id or "") if project else "",
        domain_id=domain.id if domain else None,
        system=scope.system,
    )


async def _look_up_credential(connection: Connection, proof: CredentialProof) -> _Found:
    login = None
    if proof.id is not None:
        login = await credential_store.read_login(connection, proof.id)
    elif proof.name is not None and (owner := await find_login(connection, proof.user)) is not None:
        login = await credential_store.find_login(connection, owner.user.id, proof.name)
    return _Found(
        user_id=login.credential.user_id if login else None,
        method="application_credential",
        secret=proof.secret,
        secret_hash=login.secret_hash if login else None,
        credential_id=login.credential.id if login else None,
    )


def _fits(ask: ScopeAsk, credential: ApplicationCredential) -> bool:
    return ask.kind is ScopeKind.DEFAULT or (ask.kind is ScopeKind.PROJECT and ask.target.id == credential.project_id)

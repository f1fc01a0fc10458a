"""Application credentials.

Invariant: a credential never holds a role that its maker did not hold, and a credential that is restricted
cannot make another.
"""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from muster.base.clock import Clock
from muster.base.errors import Forbidden, Invalid, NotFound
from muster.base.ids import new_hex, new_secret
from muster.domain import revocations as subjects
from muster.domain.application_credentials import ApplicationCredential, CredentialLogin
from muster.domain.assignments import Target, TargetKind
from muster.domain.attribute_filters import Filter, Listing, Page
from muster.domain.context import Context
from muster.domain.patches import Name
from muster.domain.projects import clean_name
from muster.domain.roles import Role
from muster.domain.tokens import Token
from muster.services.passwords import MAX_LENGTH, Passwords
from muster.services.redecide import redeciding_calls
from muster.services.refusals import refusing
from muster.services.revocations import Revocations
from muster.services.rights import read_roles
from muster.services.users import require_self
from muster.store import application_credentials as store
from muster.store import projects as project_store
from muster.store import roles as role_store
from muster.store import users as user_store
from muster.store.engine import Connection, Database


class RoleName(Struct, frozen=True):
    """A role by its id or its name."""

    id: str | None = None
    name: str | None = None


class CredentialAsk(Struct, frozen=True, kw_only=True):
    """A credential to be made. Without roles it gets all of the token's; without a secret, a random one."""

    name: Name
    description: str | None = None
    secret: Annotated[str, Meta(min_length=1, max_length=MAX_LENGTH)] | None = None
    expires_at_s: float | None = None
    roles: list[RoleName] | None = None
    unrestricted: bool = False

    def __repr__(self) -> str:
        return "CredentialAsk(...)"


class Made(Struct, frozen=True):
    """A new credential with its secret, which nobody will see again."""

    credential: ApplicationCredential
    secret: str

    def __repr__(self) -> str:
        return "Made(...)"


class ApplicationCredentials:
    """Use cases about application credentials."""

    def __init__(self, db: Database, revocations: Revocations, passwords: Passwords, clock: Clock) -> None:
        self._db = db
        self._revocations = revocations
        self._passwords = passwords
        self._clock = clock

    async def create(self, context: Context, token: Token, user_id: str, ask: CredentialAsk) -> Made:
        """A new credential of the caller's own, for the project of the caller's token.

        Raises Forbidden for another user or with a restricted credential's token, Invalid without a project, for a
        time that has passed and for roles that the caller does not have, Conflict for a taken name. One run of
        Argon2id and one transaction.
        """
        self.require_owner(context, user_id)
        _require_unrestricted(token)
        if token.project_id is None:
            raise Invalid("An application credential needs a token that is scoped to a project")
        if ask.expires_at_s is not None and ask.expires_at_s <= self._clock():
            raise Invalid("An application credential must expire in the future")
        secret = ask.secret or new_secret(64)
        secret_hash = await self._passwords.hash(secret)
        empty = ApplicationCredential(
            id=new_hex(),
            name=clean_name(ask.name),
            user_id=user_id,
            project_id=token.project_id,
            role_ids=(),
            description=ask.description,
            expires_at_s=ask.expires_at_s,
            unrestricted=ask.unrestricted,
        )
        return Made(await self._insert(token, ask, CredentialLogin(empty, secret_hash)), secret)

    @redeciding_calls("application_credentials")
    async def _insert(self, token: Token, ask: CredentialAsk, empty: CredentialLogin) -> ApplicationCredential:
        """The credential, with the roles that it gets."""
        with refusing("application_credential", ask.name):
            async with self._revocations.write() as change:
                role_ids = _choose_roles(ask, await _held_roles(change.connection, token))
                credential = replace(empty.credential, role_ids=role_ids)
                await store.insert(change.connection, [replace(empty, credential=credential)])
        return credential

    def require_owner(self, context: Context, user_id: str) -> None:
        """Raise Forbidden unless the caller is that user: not even an admin makes credentials for others."""
        if context.user_id != user_id:
            raise Forbidden("You are not authorized to create application credentials for this user.")

    async def list_page(
        self, context: Context, user_id: str, filters: Sequence[Filter], page: Page
    ) -> Listing[ApplicationCredential]:
        """A page of a user's credentials. Raises Forbidden, NotFound. Two queries."""
        require_self(context, user_id, "identity:list_application_credentials")
        async with self._db.read() as connection:
            if not await user_store.read(connection, [user_id]):
                raise NotFound(f"Could not find user: {user_id}.")
            return await store.read_listing(connection, user_id, filters, page)

    async def show(self, context: Context, user_id: str, credential_id: str) -> ApplicationCredential:
        """A user's credential. Raises Forbidden, NotFound. One query."""
        require_self(context, user_id, "identity:get_application_credential")
        async with self._db.read() as connection:
            return await _read_one(connection, user_id, credential_id)

    @redeciding_calls("application_credentials")
    async def delete(self, context: Context, token: Token, user_id: str, credential_id: str) -> None:
        """Delete a user's credential, and void the tokens made with it. Raises Forbidden, NotFound."""
        if context.user_id != user_id and not context.is_admin:
            raise Forbidden("You are not authorized to delete application credentials of this user.")
        _require_unrestricted(token)
        async with self._revocations.write() as change:
            await _read_one(change.connection, user_id, credential_id)
            await store.remove(change.connection, credential_id)
            change.revoke(subjects.of_application_credential(credential_id))

    async def roles(self, credentials: Sequence[ApplicationCredential]) -> dict[str, Role]:
        """The roles of credentials, by id. One query."""
        async with self._db.read() as connection:
            return await role_store.read(connection, {role_id for one in credentials for role_id in one.role_ids})


def _require_unrestricted(token: Token) -> None:
    if token.restricted:
        raise Forbidden("A restricted application credential cannot manage application credentials.")


async def _held_roles(connection: Connection, token: Token) -> list[Role]:
    """The roles that a token stands for now: those of a credential's token are fixed, a user's own may have changed."""
    if token.application_credential_id is not None or token.project_id is None:
        return list((await role_store.find(connection, token.roles)).values())
    project = (await project_store.read(connection, [token.project_id])).get(token.project_id)
    return await read_roles(connection, token.user_id, Target(TargetKind.PROJECT, token.project_id), project)


def _choose_roles(ask: CredentialAsk, held: Sequence[Role]) -> tuple[str, ...]:
    if not ask.roles:
        return tuple(role.id for role in held)
    chosen = []
    for wanted in ask.roles:
        found = [role.id for role in held if role.id == wanted.id or (wanted.id is None and role.name == wanted.name)]
        if not found:
            raise Invalid("The application credential asks for a role that its maker does not have")
        chosen += found
    return tuple(dict.fromkeys(chosen))


async def _read_one(connection: Connection, user_id: str, credential_id: str) -> ApplicationCredential:
    login = await store.read_login(connection, credential_id)
    if login is None or login.credential.user_id != user_id:
        raise NotFound(f"Could not find Application Credential: {credential_id}.")
    return login.credential

"""Users and their passwords.

Invariant: a new password, disabling and deletion void all tokens that the user has, in the same transaction.
"""

from collections.abc import Sequence

from msgspec import UNSET

from muster.base.clock import Clock
from muster.base.errors import Forbidden, Invalid, NotFound, Unauthenticated
from muster.base.ids import new_hex
from muster.base.log import get_logger
from muster.domain import revocations as subjects
from muster.domain.attribute_filters import Filter, Listing, Page
from muster.domain.context import Context
from muster.domain.groups import Group
from muster.domain.patches import UserPatch, changed
from muster.domain.policies import Rule, allows
from muster.domain.projects import clean_name
from muster.domain.resource_options import USER_OPTIONS, merge_options
from muster.domain.users import Login, User
from muster.services.passwords import MAX_LENGTH, Passwords
from muster.services.quotas import forget_limits
from muster.services.redecide import redeciding_calls
from muster.services.refusals import refusing
from muster.services.revocations import Revocations
from muster.services.token_authority import DENIED
from muster.store import groups as group_store
from muster.store import projects as project_store
from muster.store import users as store
from muster.store.engine import Connection, Database

log = get_logger(__name__)


class Users:
    """Use cases about users."""

    def __init__(self, db: Database, revocations: Revocations, passwords: Passwords, clock: Clock) -> None:
        self._db = db
        self._revocations = revocations
        self._passwords = passwords
        self._clock = clock

    async def create(self, context: Context, patch: UserPatch) -> User:
        """A new user in a domain (by default the caller's own).

        Raises Invalid, NotFound for a domain that does not exist, Conflict for a taken name. One run of Argon2id and
        one transaction.
        """
        domain_id = patch.domain_id or context.domain_id or context.project_domain_id
        empty = User(id=new_hex(), name="", domain_id=domain_id, created_at_s=self._clock())
        user = _applied(empty, patch)
        await self._insert(Login(user, await self._hash(patch)), patch)
        return user

    @redeciding_calls("users")
    async def _insert(self, login: Login, patch: UserPatch) -> None:
        domain_id = login.user.domain_id
        with refusing("user", patch.name, gone=NotFound(f"Could not find domain: {domain_id}.")):
            async with self._revocations.write() as change:
                domain = (await project_store.read(change.connection, [domain_id])).get(domain_id)
                if domain is None or not domain.is_domain:
                    raise NotFound(f"Could not find domain: {domain_id}.")
                await self._check_default_project(change.connection, patch)
                await store.insert(change.connection, [login])

    async def show(self, context: Context, user_id: str) -> User:
        """A user, for itself and for admins. Raises Forbidden for others, NotFound. One query."""
        require_self(context, user_id, "identity:get_user")
        return await self.get(user_id)

    async def get(self, user_id: str) -> User:
        """A user. Raises NotFound. One query."""
        async with self._db.read() as connection:
            return await _read_one(connection, user_id)

    async def list_page(self, filters: Sequence[Filter], page: Page) -> Listing[User]:
        """A page of users. One query."""
        async with self._db.read() as connection:
            return await store.read_listing(connection, filters, page)

    async def groups(self, context: Context, user_id: str, filters: Sequence[Filter], page: Page) -> Listing[Group]:
        """A page of the groups that a user is in. Raises Forbidden, NotFound. Two queries."""
        require_self(context, user_id, "identity:list_groups_for_user")
        async with self._db.read() as connection:
            await _read_one(connection, user_id)
            return await group_store.read_listing(connection, filters, page, user_id)

    async def update(self, user_id: str, patch: UserPatch) -> User:
        """Change a user. Raises NotFound, Invalid, Conflict for a taken name. One transaction."""
        return await self._change(user_id, patch, await self._hash(patch))

    @redeciding_calls("users")
    async def _change(self, user_id: str, patch: UserPatch, password_hash: str | None) -> User:
        with refusing("user", patch.name):
            async with self._revocations.write() as change:
                old = await _read_one(change.connection, user_id, lock=True)
                if patch.domain_id is not UNSET and patch.domain_id != old.domain_id:
                    raise Invalid("Cannot change Domain ID")
                await self._check_default_project(change.connection, patch)
                new = _applied(old, patch)
                await store.save(change.connection, new)
                if patch.password is not UNSET:
                    await store.set_password(change.connection, user_id, password_hash)
                if patch.password is not UNSET or (old.enabled and not new.enabled):
                    change.revoke(subjects.of_user(user_id))
        return new

    async def change_password(self, user_id: str, original: str, password: str) -> None:
        """A user's own change of the password, which voids the user's tokens.

        Raises Unauthenticated for a wrong original password and for a user that does not exist, Invalid for a new
        password that is empty, too long or the old one. Two runs of Argon2id, one transaction.
        """
        async with self._db.read() as connection:
            login = await store.read_login(connection, user_id)
        matches = await self._passwords.verify(login.password_hash if login else None, original)
        if login is None or not matches or not login.user.enabled:
            log.info("password not changed", action="identity.denied", user_id=user_id)
            raise Unauthenticated(DENIED)
        if login.user.options.get("lock_password"):
            raise Forbidden("The password of this user is locked.")
        if password == original:
            raise Invalid("The new password is the same as the original one")
        password_hash = await self._hash(UserPatch(password=password))
        await self._replace_password(login, password_hash)
        log.info("password changed", action="identity.password_changed", user_id=user_id)

    @redeciding_calls("users")
    async def _replace_password(self, before: Login, password_hash: str | None) -> None:
        user_id = before.user.id
        async with self._revocations.write() as change:
            now = await _read_login(change.connection, user_id)
            if now.password_hash != before.password_hash:  # somebody else changed it meanwhile
                raise Unauthenticated(DENIED)
            await store.set_password(change.connection, user_id, password_hash)
            change.revoke(subjects.of_user(user_id))

    @redeciding_calls("users")
    async def delete(self, user_id: str) -> None:
        """Delete a user with assignments, memberships, credentials and limits, and void all tokens. Raises NotFound."""
        async with self._revocations.write() as change:
            if not await store.remove(change.connection, user_id):
                raise NotFound(f"Could not find user: {user_id}.")
            await forget_limits(change.connection, [], [user_id])
            change.revoke(subjects.of_user(user_id))

    async def _hash(self, patch: UserPatch) -> str | None:
        if patch.password is UNSET or patch.password is None:
            return None
        if not 0 < len(patch.password) <= MAX_LENGTH:
            raise Invalid(f"A password has 1 to {MAX_LENGTH} characters")
        return await self._passwords.hash(patch.password)

    async def _check_default_project(self, connection: Connection, patch: UserPatch) -> None:
        project_id = patch.default_project_id
        if not project_id:
            return
        project = (await project_store.read(connection, [project_id])).get(project_id)
        if project is not None and project.is_domain:
            raise Invalid("A user's default project ID cannot be a domain ID.")


def require_self(context: Context, user_id: str, action: str) -> None:
    """Raise Forbidden unless the caller is that user, an admin, or a reader of the whole system."""
    if context.user_id != user_id and not allows(Rule.SYSTEM_READER, context):
        raise Forbidden(f"You are not authorized to perform the requested action: {action}.")


def _applied(old: User, patch: UserPatch) -> User:
    return changed(
        old,
        name=clean_name(patch.name) if patch.name is not UNSET else UNSET,
        enabled=patch.enabled,
        default_project_id=patch.default_project_id,
        options=merge_options(old.options, patch.options, USER_OPTIONS) if patch.options is not UNSET else UNSET,
        extra={**old.extra, **patch.extra},
    )


async def _read_one(connection: Connection, user_id: str, *, lock: bool = False) -> User:
    user = (await store.read(connection, [user_id], lock=lock)).get(user_id)
    if user is None:
        raise NotFound(f"Could not find user: {user_id}.")
    return user


async def _read_login(connection: Connection, user_id: str) -> Login:
    await _read_one(connection, user_id, lock=True)
    login = await store.read_login(connection, user_id)
    if login is None:
        raise NotFound(f"Could not find user: {user_id}.")
    return login

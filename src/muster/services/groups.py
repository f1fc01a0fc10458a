"""Groups of users.

Invariant: who leaves a group loses all tokens at once, for they may rest on what the group was granted.
"""

from collections.abc import Sequence

from msgspec import UNSET

from muster.base.errors import Forbidden, Invalid, NotFound
from muster.base.ids import new_hex
from muster.domain import revocations as subjects
from muster.domain.attribute_filters import Filter, Listing, Page
from muster.domain.context import Context
from muster.domain.groups import Group
from muster.domain.patches import GroupPatch, changed
from muster.domain.policies import Rule, allows
from muster.domain.projects import clean_name
from muster.domain.users import User
from muster.services.redecide import redeciding_calls
from muster.services.refusals import refusing
from muster.services.revocations import Revocations
from muster.store import groups as store
from muster.store import projects as project_store
from muster.store import users as user_store
from muster.store.engine import Connection, Database


class Groups:
    """Use cases about groups."""

    def __init__(self, db: Database, revocations: Revocations) -> None:
        self._db = db
        self._revocations = revocations

    @redeciding_calls("groups")
    async def create(self, context: Context, patch: GroupPatch) -> Group:
        """A new group in a domain (by default the caller's own). Raises Invalid, NotFound, Conflict."""
        domain_id = patch.domain_id or context.domain_id or context.project_domain_id
        group = _applied(Group(id=new_hex(), name="", domain_id=domain_id), patch)
        with refusing("group", patch.name, gone=NotFound(f"Could not find domain: {domain_id}.")):
            async with self._revocations.write() as change:
                domain = (await project_store.read(change.connection, [domain_id])).get(domain_id)
                if domain is None or not domain.is_domain:
                    raise NotFound(f"Could not find domain: {domain_id}.")
                await store.insert(change.connection, [group])
        return group

    async def show(self, group_id: str) -> Group:
        """A group. Raises NotFound. One query."""
        async with self._db.read() as connection:
            return await _read_one(connection, group_id)

    async def list_page(self, filters: Sequence[Filter], page: Page) -> Listing[Group]:
        """A page of groups. One query."""
        async with self._db.read() as connection:
            return await store.read_listing(connection, filters, page)

    async def members(self, group_id: str, filters: Sequence[Filter], page: Page) -> Listing[User]:
        """A page of a group's users. Raises NotFound. Two queries."""
        async with self._db.read() as connection:
            await _read_one(connection, group_id)
            return await store.read_members(connection, group_id, filters, page)

    @redeciding_calls("groups")
    async def update(self, group_id: str, patch: GroupPatch) -> Group:
        """Change a group. Raises NotFound, Invalid, Conflict for a taken name."""
        with refusing("group", patch.name):
            async with self._revocations.write() as change:
                old = await _read_one(change.connection, group_id, lock=True)
                if patch.domain_id is not UNSET and patch.domain_id != old.domain_id:
                    raise Invalid("Cannot change Domain ID")
                new = _applied(old, patch)
                await store.save(change.connection, new)
        return new

    @redeciding_calls("groups")
    async def delete(self, group_id: str) -> None:
        """Delete a group, and void its users' tokens. Raises NotFound."""
        async with self._revocations.write() as change:
            await _read_one(change.connection, group_id, lock=True)  # else somebody might still come into it
            members = await store.read_member_ids(change.connection, [group_id])
            await store.remove(change.connection, group_id)
            change.revoke(*(subjects.of_user(user_id) for user_id in members[group_id]))

    @redeciding_calls("groups")
    async def add_member(self, group_id: str, user_id: str) -> None:
        """Put a user into a group. Raises NotFound."""
        with refusing("membership"):
            async with self._revocations.write() as change:
                await _check_both(change.connection, group_id, user_id)
                await store.add_member(change.connection, group_id, user_id)

    async def check_member(self, context: Context, group_id: str, user_id: str) -> None:
        """Return if a user is in a group. Raises NotFound, Forbidden for who is neither that user nor an admin."""
        if context.user_id != user_id and not allows(Rule.SYSTEM_READER, context):
            raise Forbidden("You are not authorized to perform the requested action: identity:check_user_in_group.")
        async with self._db.read() as connection:
            await _check_both(connection, group_id, user_id)
            if not await store.has_member(connection, group_id, user_id):
                raise NotFound(f"User '{user_id}' not found in group '{group_id}'")

    @redeciding_calls("groups")
    async def remove_member(self, group_id: str, user_id: str) -> None:
        """Take a user out of a group, and void the user's tokens. Raises NotFound."""
        async with self._revocations.write() as change:
            await _check_both(change.connection, group_id, user_id)
            if not await store.remove_member(change.connection, group_id, user_id):
                raise NotFound(f"User '{user_id}' not found in group '{group_id}'")
            change.revoke(subjects.of_user(user_id))


def _applied(old: Group, patch: GroupPatch) -> Group:
    return changed(
        old,
        name=clean_name(patch.name) if patch.name is not UNSET else UNSET,
        description=(patch.description or "") if patch.description is not UNSET else UNSET,
        extra={**old.extra, **patch.extra},
    )


async def _read_one(connection: Connection, group_id: str, *, lock: bool = False) -> Group:
    group = (await store.read(connection, [group_id], lock=lock)).get(group_id)
    if group is None:
        raise NotFound(f"Could not find group: {group_id}.")
    return group


async def _check_both(connection: Connection, group_id: str, user_id: str) -> None:
    await _read_one(connection, group_id)
    if not await user_store.read(connection, [user_id]):
        raise NotFound(f"Could not find user: {user_id}.")

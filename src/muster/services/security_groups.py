"""Security groups. Each project has a default group from the moment it is first seen; the store keeps it single."""

from collections.abc import Collection, Mapping, Sequence

from muster.base.clock import Clock
from muster.base.errors import Bug
from muster.base.ids import new_uuid
from muster.domain.context import Context
from muster.domain.network_errors import network_error
from muster.domain.network_listing import ListQuery
from muster.domain.networks import changed_fields
from muster.domain.quotas import Ask
from muster.domain.security_groups import (
    DEFAULT_NAME,
    NewSecurityGroup,
    SecurityGroup,
    SecurityGroupChanges,
    initial_rules,
)
from muster.services.network_access import first_refusal, scope_of
from muster.services.outbox import Outbox
from muster.services.quotas import Quotas
from muster.services.redecide import redeciding
from muster.store import security_groups as store
from muster.store import usages as usage_store
from muster.store.engine import Connection, Database, Violation
from muster.store.network_listing import MarkerNotFound
from muster.store.violations import FOREIGN_KEY


class SecurityGroups:
    """What can be asked of security groups; also the `DefaultGroups` of port batches."""

    def __init__(self, database: Database, clock: Clock, quotas: Quotas, changes: Outbox) -> None:
        self._database = database
        self._clock = clock
        self._quotas = quotas
        self._changes = changes

    async def ensure_default(self, connection: Connection, project_ids: Collection[str]) -> Mapping[str, str]:
        """The default group of each project, made where there is none. One query; four statements per new group.

        Two transactions that make the same group at once: the second waits for the first and finds its group.
        """
        found = await store.read_defaults(connection, project_ids)
        missing = sorted(set(project_ids) - found.keys())
        for project_id in missing:
            await self._make_default(connection, project_id)
        if missing:
            found = await store.read_defaults(connection, project_ids)
        if len(found) < len(set(project_ids)):
            raise Bug("A project has no default security group")
        return found

    async def greet(self, context: Context) -> None:
        """Make the default group of the caller's project, if it is seen for the first time. One query else."""
        if context.project_id is None:
            return
        async with self._database.read() as connection:
            if await store.read_defaults(connection, [context.project_id]):
                return
        project_id = context.project_id

        async def decide() -> None:
            async with self._database.write() as connection:
                await self.ensure_default(connection, [project_id])

        await redeciding("security_groups", decide)

    async def create(self, context: Context, drafts: Sequence[NewSecurityGroup]) -> list[SecurityGroup]:
        """Make all of these groups with the rules that let everything out, or none. Raises Exhausted."""
        now = self._clock()
        rules = [rule for draft in drafts for rule in initial_rules(draft, [new_uuid(), new_uuid()])]

        async def decide() -> list[SecurityGroup]:
            async with self._database.write() as connection:
                await self.ensure_default(connection, {draft.project_id for draft in drafts})
                asks = [Ask(draft.project_id, {"security_group": 1, "security_group_rule": 2}) for draft in drafts]
                refusals = await self._quotas.admit(connection, asks)
                if any(refusals):
                    raise first_refusal([refusal.resource for refusal in refusals if refusal])
                await store.insert_all(connection, drafts, now)
                await store.insert_rules(connection, rules, now)
                found = await store.read(connection, [draft.id for draft in drafts])
            return [found[draft.id] for draft in drafts]

        return await redeciding("security_groups", decide)

    async def get(self, context: Context, group_id: str) -> SecurityGroup:
        """One group with its rules. Raises NotFound."""
        async with self._database.read() as connection:
            return await self._seen(connection, context, group_id)

    async def page(self, context: Context, query: ListQuery) -> list[SecurityGroup]:
        """A page of the caller's groups. Raises NotFound for an unknown marker."""
        await self.greet(context)
        async with self._database.read() as connection:
            try:
                return await store.read_page(connection, query, scope_of(context))
            except MarkerNotFound as error:
                raise network_error("SecurityGroupNotFound", id=query.marker) from error

    async def update(self, context: Context, group_id: str, changes: SecurityGroupChanges) -> SecurityGroup:
        """Change a group. Raises NotFound; Conflict for a default group's name, or `stateful` while ports use it."""
        fields = changed_fields(changes)

        async def decide() -> SecurityGroup:
            async with self._changes.transaction(self._database) as (connection, telling):
                group = await self._seen(connection, context, group_id)
                if group.is_default and "name" in fields:
                    raise network_error("SecurityGroupCannotUpdateDefault")
                await store.change(connection, group_id, fields, self._clock())
                if fields.get("stateful", group.stateful) != group.stateful:
                    await self._check_unused(connection, group_id)
                    await telling.groups_changed([group_id])
                return await self._seen(connection, context, group_id)

        return await redeciding("security_groups", decide)

    async def delete(self, context: Context, group_id: str) -> None:
        """Delete a group, its rules, and other groups' rules that refer to it. Raises NotFound, Conflict."""

        async def decide() -> None:
            try:
                async with self._changes.transaction(self._database) as (connection, telling):
                    group = await self._seen(connection, context, group_id)
                    if group.is_default and not context.is_admin:
                        raise network_error("SecurityGroupCannotRemoveDefault")
                    await self._check_unused(connection, group_id)
                    await telling.groups_changed(await self._delete(connection, group))
            except Violation as error:
                if error.constraint == FOREIGN_KEY:  # a port has just joined it
                    raise network_error("SecurityGroupInUse", id=group_id, reason="in use") from error
                raise

        await redeciding("security_groups", decide)

    async def _check_unused(self, connection: Connection, group_id: str) -> None:
        if await store.is_used(connection, group_id):
            raise network_error("SecurityGroupInUse", id=group_id, reason="in use")

    async def _delete(self, connection: Connection, group: SecurityGroup) -> set[str]:
        """Returns the other groups that have lost rules."""
        # Its project's figures first: whoever is adding a rule has them, and that rule must be found here, not cascade.
        gone = Ask(group.project_id, {"security_group": 1, "security_group_rule": 0})
        await self._quotas.give_back(connection, [gone])
        rules = await store.find_referring(connection, group.id)
        others = {group_id for _, group_id in rules if group_id != group.id}
        projects = await store.remove_rules(connection, [rule_id for rule_id, _ in rules])
        freed = [Ask(project_id, {"security_group_rule": 1}) for project_id in projects]
        await self._quotas.give_back(connection, freed)
        await store.touch(connection, others, self._clock())
        if not await store.remove(connection, group.id):
            raise network_error("SecurityGroupNotFound", id=group.id)
        return others

    async def _make_default(self, connection: Connection, project_id: str) -> None:
        now = self._clock()
        group = NewSecurityGroup(
            id=new_uuid(),
            project_id=project_id,
            name=DEFAULT_NAME,
            description="Default security group",
            is_default=True,
        )
        if await store.insert_default(connection, group, now):
            rules = initial_rules(group, [new_uuid() for _ in range(4)])
            await store.insert_rules(connection, rules, now)
            # Counted, but never refused: a project cannot be without its default group.
            counts = {(project_id, "security_group"): 1, (project_id, "security_group_rule"): len(rules)}
            await usage_store.add(connection, counts)

    async def _seen(self, connection: Connection, context: Context, group_id: str) -> SecurityGroup:
        group = (await store.read(connection, [group_id])).get(group_id)
        if group is None or not context.sees(group.project_id):
            raise network_error("SecurityGroupNotFound", id=group_id)
        return group

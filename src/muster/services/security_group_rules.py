"""Rules of security groups: a change of one reaches the hosts in the transaction that makes it."""

from collections.abc import Collection, Sequence

from muster.base.clock import Clock
from muster.base.errors import Stale
from muster.domain.context import Context
from muster.domain.network_errors import network_error
from muster.domain.network_listing import ListQuery
from muster.domain.quotas import Ask
from muster.domain.security_groups import NewRule, SecurityGroup, SecurityGroupRule, check_rule, fingerprint
from muster.services.network_access import first_refusal, scope_of
from muster.services.outbox import Outbox
from muster.services.quotas import Quotas
from muster.services.redecide import redeciding
from muster.store import security_groups as store
from muster.store.engine import Connection, Database, Violation
from muster.store.network_listing import MarkerNotFound
from muster.store.violations import FOREIGN_KEY


class SecurityGroupRules:
    """What can be asked of rules."""

    def __init__(self, database: Database, clock: Clock, quotas: Quotas, changes: Outbox) -> None:
        self._database = database
        self._clock = clock
        self._quotas = quotas
        self._changes = changes

    async def create(self, context: Context, drafts: Sequence[NewRule]) -> list[SecurityGroupRule]:
        """Make all of these rules, which must be of one group, or none. One transaction, about eight statements.

        Raises Invalid for a rule that contradicts itself, NotFound for its groups, Conflict for one that is there.
        """
        for draft in drafts:
            check_rule(draft)
        if len({draft.security_group_id for draft in drafts}) > 1:
            raise network_error("SecurityGroupNotSingleGroupRules")
        if len({fingerprint(draft) for draft in drafts}) < len(drafts):
            raise network_error("DuplicateSecurityGroupRuleInPost")

        async def decide() -> list[SecurityGroupRule]:
            try:
                async with self._changes.transaction(self._database) as (connection, telling):
                    made = await self._insert(connection, context, drafts)
                    await telling.groups_changed({draft.security_group_id for draft in drafts})
                    return made
            except Violation as error:
                if error.constraint in {store.RULE_TAKEN, FOREIGN_KEY}:
                    raise Stale("The same rule was made, or a group deleted, at the same time") from error
                raise

        return await redeciding("security_group_rules", decide)

    async def get(self, context: Context, rule_id: str) -> SecurityGroupRule:
        """One rule. Raises NotFound."""
        async with self._database.read() as connection:
            return await self._seen(connection, context, rule_id)

    async def page(self, context: Context, query: ListQuery) -> list[SecurityGroupRule]:
        """A page of the rules that the caller sees. Raises NotFound for an unknown marker."""
        async with self._database.read() as connection:
            try:
                return await store.read_rules_page(connection, query, scope_of(context))
            except MarkerNotFound as error:
                raise network_error("SecurityGroupRuleNotFound", id=query.marker) from error

    async def delete(self, context: Context, rule_id: str) -> None:
        """Delete a rule. Raises NotFound."""

        async def decide() -> None:
            async with self._changes.transaction(self._database) as (connection, telling):
                rule = await self._seen(connection, context, rule_id)
                if not await store.remove_rules(connection, [rule_id]):
                    raise network_error("SecurityGroupRuleNotFound", id=rule_id)
                await self._quotas.give_back(connection, [Ask(rule.project_id, {"security_group_rule": 1})])
                await store.touch(connection, [rule.security_group_id], self._clock())
                await telling.groups_changed([rule.security_group_id])

        await redeciding("security_group_rules", decide)

    async def _insert(
        self, connection: Connection, context: Context, drafts: Sequence[NewRule]
    ) -> list[SecurityGroupRule]:
        group_id = drafts[0].security_group_id
        named = {group_id, *(draft.remote_group_id for draft in drafts if draft.remote_group_id)}
        _check_groups(context, await store.read(connection, named), named)
        there = await store.find_rules(connection, group_id, [fingerprint(draft) for draft in drafts])
        if there:
            raise network_error("SecurityGroupRuleExists", rule_id=min(there.values()))
        asks = [Ask(draft.project_id, {"security_group_rule": 1}) for draft in drafts]
        refusals = await self._quotas.admit(connection, asks)
        if any(refusals):
            raise first_refusal([refusal.resource for refusal in refusals if refusal])
        await store.insert_rules(connection, drafts, self._clock())
        await store.touch(connection, [group_id], self._clock())
        made = await store.read_rules(connection, [draft.id for draft in drafts])
        return [made[draft.id] for draft in drafts]

    async def _seen(self, connection: Connection, context: Context, rule_id: str) -> SecurityGroupRule:
        rule = (await store.read_rules(connection, [rule_id])).get(rule_id)
        if rule is not None:
            if context.sees(rule.project_id):
                return rule
            group = (await store.read(connection, [rule.security_group_id])).get(rule.security_group_id)
            if group is not None and context.sees(group.project_id):
                return rule
        raise network_error("SecurityGroupRuleNotFound", id=rule_id)


def _check_groups(context: Context, groups: dict[str, SecurityGroup], named: Collection[str]) -> None:
    for group_id in named:
        group = groups.get(group_id)
        if group is None or not context.sees(group.project_id):
            raise network_error("SecurityGroupNotFound", id=group_id)

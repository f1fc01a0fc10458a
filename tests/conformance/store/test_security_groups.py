"""Statements on security groups and rules, and the service's default groups, which depend on a partial unique index."""

import asyncio

import pytest

from muster.base.clock import system_clock
from muster.domain.context import Context
from muster.domain.network_listing import Condition, ListQuery
from muster.domain.quotas import NETWORK_DEFAULTS
from muster.domain.security_groups import NewRule, NewSecurityGroup, initial_rules
from muster.services.outbox import Outbox
from muster.services.quotas import Quotas
from muster.services.security_groups import SecurityGroups
from muster.store import security_groups as store
from muster.store import usages as usage_store
from muster.store.engine import Violation


def service(database) -> SecurityGroups:
    return SecurityGroups(database, system_clock, Quotas(NETWORK_DEFAULTS), Outbox(system_clock))


async def test_concurrent_first_sights_make_one_default_group(database):
    groups = service(database)

    async def ensure() -> str:
        async with database.write() as connection:
            return (await groups.ensure_default(connection, ["p1"]))["p1"]

    assert len(set(await asyncio.gather(*(ensure() for _ in range(8))))) == 1
    async with database.read() as connection:
        [group] = await store.read_page(connection, ListQuery(), "p1")
        assert (group.is_default, len(group.rules)) == (True, 4)
        counted = await usage_store.read(connection, ["p1"])
    assert counted == {("p1", "security_group"): 1, ("p1", "security_group_rule"): 4}


async def test_the_same_rule_is_refused_by_its_fingerprint(database):
    group = NewSecurityGroup(id="g", project_id="p1")
    rule = NewRule(id="r1", project_id="p1", security_group_id="g", direction="ingress", protocol="tcp")
    async with database.write() as connection:
        await store.insert_all(connection, [group], 1.0)
        await store.insert_rules(connection, [rule], 1.0)
    double = NewRule(id="r2", project_id="p1", security_group_id="g", direction="ingress", protocol="6")
    with pytest.raises(Violation) as caught:
        async with database.write() as connection:
            await store.insert_rules(connection, [double], 1.0)
    assert caught.value.constraint == store.RULE_TAKEN


async def test_rules_are_listed_by_group_and_default(database):
    default = NewSecurityGroup(id="d", project_id="p1", is_default=True)
    plain = NewSecurityGroup(id="g", project_id="p1")
    async with database.write() as connection:
        await store.insert_all(connection, [default, plain], 1.0)
        await store.insert_rules(connection, initial_rules(default, ["1", "2", "3", "4"]), 1.0)
        await store.insert_rules(connection, initial_rules(plain, ["5", "6"]), 1.0)
        mine = ListQuery(conditions=(Condition("belongs_to_default", (True,)),))
        assert {rule.id for rule in await store.read_rules_page(connection, mine, "p1")} == {"1", "2", "3", "4"}
        unset = ListQuery(conditions=(Condition("remote_group_id", (None,)),))
        assert {rule.id for rule in await store.read_rules_page(connection, unset, "p1")} == {"1", "2", "5", "6"}
        assert await store.read_rules_page(connection, ListQuery(), "p2") == []


async def test_deleting_a_group_takes_the_rules_that_refer_to_it(database):
    groups = service(database)
    context = Context(user_id="u", project_id="p1", roles=frozenset({"member"}))
    await groups.create(context, [NewSecurityGroup(id=name, project_id="p1", name=name) for name in "ab"])
    rule = NewRule(id="r", project_id="p1", security_group_id="a", direction="ingress", remote_group_id="b")
    async with database.write() as connection:
        await store.insert_rules(connection, [rule], 1.0)
        await usage_store.add(connection, {("p1", "security_group_rule"): 1})
    await groups.delete(context, "b")
    async with database.read() as connection:
        assert await store.read_rules(connection, ["r"]) == {}
        counted = await usage_store.read(connection, ["p1"])
    assert counted == {("p1", "security_group"): 2, ("p1", "security_group_rule"): 6}

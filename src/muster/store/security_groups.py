"""Security groups and their rules."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec.structs import asdict
from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    String,
    Table,
    UniqueConstraint,
    delete,
    false,
    insert,
    or_,
    select,
    true,
    update,
)
from sqlalchemy import text as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.network_listing import ListQuery
from muster.domain.security_groups import NewRule, NewSecurityGroup, SecurityGroup, SecurityGroupRule, fingerprint
from muster.store.columns import counter, flag, identity_column, integer, moment, reference, text
from muster.store.dialects import among, chunks, upsert
from muster.store.engine import metadata
from muster.store.network_listing import Listable, one_of, page
from muster.store.tags import forget as forget_tags
from muster.store.tags import read as read_tags

security_groups = Table(
    "security_groups",
    metadata,
    identity_column(),
    reference("project_id", nullable=False, index=True),
    text("name", default=""),
    text("description", default=""),
    flag("is_default"),
    flag("stateful", default=True),
    counter("revision"),  # raised by each change of the group or its rules
    counter("member_generation"),  # raised by each change of its members that hosts may have to hear of
    moment("created_at"),
    moment("updated_at"),
    # One default group per project, also when two requests make it at the same time.
    Index(
        "uq_security_groups_default",
        "project_id",
        unique=True,
        sqlite_where=sql("is_default"),
        postgresql_where=sql("is_default"),
    ),
)

security_group_rules = Table(
    "security_group_rules",
    metadata,
    identity_column(),
    reference("project_id", nullable=False, index=True),
    reference("security_group_id", ForeignKey("security_groups.id", ondelete="CASCADE"), nullable=False),
    text("description", default=""),
    text("direction"),
    text("ethertype"),
    text("protocol", nullable=True),
    integer("port_range_min", nullable=True),
    integer("port_range_max", nullable=True),
    text("remote_ip_prefix", nullable=True),
    reference("remote_group_id", ForeignKey("security_groups.id"), nullable=True, index=True),
    Column("fingerprint", String(64), nullable=False),  # of all that makes two rules the same
    counter("revision"),
    moment("created_at"),
    moment("updated_at"),
    UniqueConstraint("security_group_id", "fingerprint"),
)

RULE_TAKEN = "uq_security_group_rules_security_group_id_fingerprint"

# A group is its project's own: none is shared.
_groups = Listable(security_groups, {"shared": lambda values: true() if False in values else false()})
_rules = Listable(
    security_group_rules,
    {
        "belongs_to_default": lambda values: security_group_rules.c.security_group_id.in_(
            select(security_groups.c.id).where(one_of(security_groups.c.is_default, values))
        )
    },
)


async def insert_all(connection: AsyncConnection, made: Sequence[NewSecurityGroup], now: float) -> None:
    """Write new groups, without rules. One statement."""
    await connection.execute(insert(security_groups), [_group_row(group, now) for group in made])


async def insert_default(connection: AsyncConnection, group: NewSecurityGroup, now: float) -> bool:
    """Write a project's default group unless it has one; whether it was written. One statement, waits for a race."""
    statement = upsert(connection, security_groups).values(_group_row(group, now)).on_conflict_do_nothing()
    return bool((await connection.execute(statement)).rowcount == 1)


async def read_defaults(connection: AsyncConnection, project_ids: Collection[str]) -> dict[str, str]:
    """The default group of each of these projects that has one. One query per chunk."""
    found: dict[str, str] = {}
    for part in chunks(sorted(project_ids)):
        statement = select(security_groups.c.project_id, security_groups.c.id).where(
            among(security_groups.c.project_id, part), security_groups.c.is_default
        )
        found.update((await connection.execute(statement)).all())
    return found


async def insert_rules(connection: AsyncConnection, made: Sequence[NewRule], now: float) -> None:
    """Write new rules. One statement; the unique key refuses one that its group has already."""
    rows = [
        {**asdict(rule), "fingerprint": fingerprint(rule), "revision": 0, "created_at": now, "updated_at": now}
        for rule in made
    ]
    await connection.execute(insert(security_group_rules), rows)


async def read(connection: AsyncConnection, group_ids: Collection[str]) -> dict[str, SecurityGroup]:
    """These groups by id, as far as they exist, with rules and tags. Three queries per chunk."""
    rows: list[Any] = []
    for part in chunks(sorted(group_ids)):
        rows += await connection.execute(select(security_groups).where(among(security_groups.c.id, part)))
    return {group.id: group for group in await _whole(connection, rows)}


async def read_page(connection: AsyncConnection, query: ListQuery, project_id: str | None) -> list[SecurityGroup]:
    """A page of a project's groups; None is all projects'. Three queries, four with a marker.

    Raises MarkerNotFound.
    """
    scope = [security_groups.c.project_id == project_id] if project_id is not None else []
    return await _whole(connection, await page(connection, _groups, query, scope))


async def read_rules(connection: AsyncConnection, rule_ids: Collection[str]) -> dict[str, SecurityGroupRule]:
    """These rules by id, as far as they exist. Two queries."""
    statement = select(security_group_rules).where(among(security_group_rules.c.id, rule_ids))
    return {rule.id: rule for rule in await _whole_rules(connection, (await connection.execute(statement)).all())}


async def read_rules_page(
    connection: AsyncConnection, query: ListQuery, project_id: str | None
) -> list[SecurityGroupRule]:
    """A page of the rules that a project sees: its own and those of its groups. Two queries, three with a marker.

    Raises MarkerNotFound.
    """
    scope = []
    if project_id is not None:
        mine = select(security_groups.c.id).where(security_groups.c.project_id == project_id)
        columns = security_group_rules.c
        scope = [or_(columns.project_id == project_id, columns.security_group_id.in_(mine))]
    return await _whole_rules(connection, await page(connection, _rules, query, scope))


async def find_rules(connection: AsyncConnection, group_id: str, fingerprints: Collection[str]) -> dict[str, str]:
    """The rules of a group with these fingerprints: fingerprint to rule id. One query."""
    columns = security_group_rules.c
    statement = select(columns.fingerprint, columns.id).where(
        columns.security_group_id == group_id, among(columns.fingerprint, fingerprints)
    )
    return dict((await connection.execute(statement)).all())


async def find_referring(connection: AsyncConnection, group_id: str) -> list[tuple[str, str]]:
    """(rule id, group id) of the rules that concern a group: its own, and others' that refer to it. One query."""
    columns = security_group_rules.c
    statement = select(columns.id, columns.security_group_id).where(
        or_(columns.security_group_id == group_id, columns.remote_group_id == group_id)
    )
    return list((await connection.execute(statement)).all())


async def is_used(connection: AsyncConnection, group_id: str) -> bool:
    """Whether any port is in the group. One query."""
    links = metadata.tables["port_security_groups"].c
    statement = select(links.port_id).where(links.security_group_id == group_id).limit(1)
    return (await connection.execute(statement)).first() is not None


async def change(connection: AsyncConnection, group_id: str, fields: Mapping[str, Any], now: float) -> None:
    """Set fields and raise the revision. One statement."""
    statement = update(security_groups).where(security_groups.c.id == group_id)
    await connection.execute(statement.values(**fields, revision=security_groups.c.revision + 1, updated_at=now))


async def touch(connection: AsyncConnection, group_ids: Collection[str], now: float) -> None:
    """Raise the revision of groups of which a rule or a member has changed. One statement per chunk."""
    for part in chunks(sorted(group_ids)):
        statement = update(security_groups).where(among(security_groups.c.id, part))
        await connection.execute(statement.values(revision=security_groups.c.revision + 1, updated_at=now))


async def remove(connection: AsyncConnection, group_id: str) -> bool:
    """Delete a group whose rules are gone (a foreign key refuses one with ports); False if it is not there.

    Two statements.
    """
    removed = (await connection.execute(delete(security_groups).where(security_groups.c.id == group_id))).rowcount == 1
    await forget_tags(connection, [group_id])  # who changes them has the group's row, and takes it first
    return removed


async def remove_rules(connection: AsyncConnection, rule_ids: Sequence[str]) -> list[str]:
    """Delete rules; the project of each that was there. One statement per chunk."""
    projects: list[str] = []
    for part in chunks(rule_ids):
        statement = delete(security_group_rules).where(among(security_group_rules.c.id, part))
        projects += (await connection.execute(statement.returning(security_group_rules.c.project_id))).scalars()
    return projects


async def _whole(connection: AsyncConnection, rows: Sequence[Any]) -> list[SecurityGroup]:
    ids = [row.id for row in rows]
    defaults = {row.id for row in rows if row.is_default}
    tagged = await read_tags(connection, ids)
    rules: dict[str, list[SecurityGroupRule]] = {}
    for part in chunks(ids):
        statement = select(security_group_rules).where(among(security_group_rules.c.security_group_id, part))
        columns = security_group_rules.c
        for row in await connection.execute(statement.order_by(columns.created_at, columns.id)):
            group_id = row.security_group_id
            rules.setdefault(group_id, []).append(_rule(row, is_default=group_id in defaults))
    return [_group(row, rules.get(row.id, ()), tagged.get(row.id, ())) for row in rows]


async def _whole_rules(connection: AsyncConnection, rows: Sequence[Any]) -> list[SecurityGroupRule]:
    defaults: set[str] = set()
    for part in chunks(sorted({row.security_group_id for row in rows})):
        statement = select(security_groups.c.id).where(among(security_groups.c.id, part), security_groups.c.is_default)
        defaults.update((await connection.execute(statement)).scalars())
    return [_rule(row, is_default=row.security_group_id in defaults) for row in rows]


def _group(row: Any, rules: Sequence[SecurityGroupRule], tags: tuple[str, ...]) -> SecurityGroup:
    fields = dict(row._mapping)
    del fields["member_generation"]  # the hosts' alone
    return SecurityGroup(**fields, rules=tuple(rules), tags=tags)


def _rule(row: Any, *, is_default: bool) -> SecurityGroupRule:
    fields = dict(row._mapping)
    del fields["fingerprint"]
    return SecurityGroupRule(**fields, belongs_to_default=is_default)


def _group_row(group: NewSecurityGroup, now: float) -> dict[str, Any]:
    return {**asdict(group), "revision": 0, "member_generation": 0, "created_at": now, "updated_at": now}

"""Quotas of projects, for all APIs: what is in use is counted in the very transaction that takes or frees it.

Where users of a project have limits of their own, what is counted for the project is counted for the user as well. The
project's figure says so; it is changed first, and so held.

Here a figure is held from when it is asked for until the transaction ends. What thousands ask for at once, ports and
servers, is counted last (`services.tally`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import Struct

from muster.domain.quotas import COUNTED_BY_USER, EVERYBODY, UNLIMITED, Ask, Key, Refusal, admit, totals
from muster.store import quotas as quota_store
from muster.store import usages as usage_store
from muster.store import user_quotas as user_store
from muster.store.engine import Connection


class Standing(Struct, frozen=True):
    """What is in use of what, and how much may be, as far as was asked."""

    in_use: dict[Key, int]
    limits: dict[Key, int]

    def note(self, users: Mapping[user_store.UserKey, user_store.UserFigure]) -> None:
        """Add what users have and may have."""
        for key, figure in users.items():
            self.in_use[key], self.limits[key] = figure.in_use, figure.hard_limit


async def count(connection: Connection, deltas: Mapping[Key, int]) -> Standing:
    """Change what is in use; returns what it is then, and the limits of users of whom anything was counted.

    One statement, and another where users of one of the projects have limits of their own.
    """
    figures = await usage_store.add(connection, {key: n for key, n in deltas.items() if len(key) == 2})
    of_users = {key: n for key, n in deltas.items() if len(key) == 3 and key[0] in figures.by_user}
    after = Standing({}, {})
    after.in_use.update(figures.in_use.items())
    if of_users:
        after.note(await user_store.add(connection, of_users))
    return after


class Quotas:
    """`defaults` are the limits, by resource, of projects that have none of their own and until others are set."""

    def __init__(self, defaults: Mapping[str, int]) -> None:
        self.defaults = dict(defaults)

    async def admit(self, connection: Connection, asks: Sequence[Ask]) -> list[Refusal | None]:
        """Count what these requests take and say which do not fit; those are not counted.

        One query and one statement, two where users of the projects have limits. Concurrent transactions that take of
        the same project wait for each other here, so that together they never pass a limit.
        """
        wanted = totals(asks)
        after = await count(connection, wanted)
        before = {key: in_use - wanted[key] for key, in_use in after.in_use.items()}
        limits = await self.limits(connection, {ask.project_id for ask in asks}, {key[-1] for key in wanted})
        outcomes = admit(asks, before, limits | after.limits)
        refused = [ask for ask, outcome in zip(asks, outcomes, strict=True) if outcome is not None]
        await self.give_back(connection, refused)
        return outcomes

    async def give_back(self, connection: Connection, asks: Iterable[Ask]) -> None:
        """Count these as free again. One statement, two where users of the projects have limits."""
        freed = {key: -amount for key, amount in totals(asks).items()}
        if freed:
            await count(connection, freed)

    async def limits(
        self, connection: Connection, project_ids: Collection[str], resources: Collection[str]
    ) -> dict[Key, int]:
        """The limit of each project for each resource; EVERYBODY is a project too. One query."""
        own = await quota_store.read_limits(connection, {*project_ids, EVERYBODY})
        return self._with_defaults(own, project_ids, resources)

    async def limits_with_users(
        self,
        connection: Connection,
        project_ids: Collection[str],
        user_ids: Collection[str],
        resources: Collection[str],
    ) -> Standing:
        """As `limits`, with those that these users have in the projects, and what is in use of these. One query."""
        own, users = await user_store.read_with_projects(connection, {*project_ids, EVERYBODY}, user_ids)
        standing = Standing({}, self._with_defaults(own, project_ids, resources))
        standing.note({key: figure for key, figure in users.items() if key[2] in resources})
        return standing

    async def in_use(self, connection: Connection, project_id: str) -> dict[str, int]:
        """What a project has in use, by resource. One query."""
        found = await usage_store.read(connection, [project_id])
        return {resource: number for (_, resource), number in found.items()}

    async def set_limits(self, connection: Connection, project_id: str, limits: Mapping[str, int]) -> None:
        """Set some of a project's limits; UNLIMITED for none."""
        await quota_store.set_limits(connection, project_id, limits)

    async def ensure_limits(self, connection: Connection, project_id: str, limits: Mapping[str, int]) -> None:
        """Set those of a project's limits of which it has none of its own yet."""
        own = await quota_store.read_limits(connection, [project_id])
        missing = {name: limit for name, limit in limits.items() if (project_id, name) not in own}
        await self.set_limits(connection, project_id, missing)

    async def reset_limits(self, connection: Connection, project_id: str, resources: Collection[str]) -> None:
        """A project's limits are the defaults again."""
        await quota_store.delete_limits(connection, [project_id], resources)

    def _with_defaults(
        self, own: Mapping[tuple[str, str], int], project_ids: Collection[str], resources: Collection[str]
    ) -> dict[Key, int]:
        common = {name: own.get((EVERYBODY, name), self.defaults.get(name, UNLIMITED)) for name in resources}
        return {
            (project_id, resource): own.get((project_id, resource), common[resource])
            for project_id in project_ids
            for resource in resources
        }


async def reset_user_limits(connection: Connection, project_id: str, user_id: str | None = None) -> None:
    """A user's limits, or with None those of all users of the project, are the project's again.

    One query where there are none, else four statements at most.
    """
    if not await user_store.read(connection, project_id):
        return
    await usage_store.hold(connection, project_id, COUNTED_BY_USER, by_user=True)
    await user_store.remove(connection, project_id, user_id)
    if not await user_store.read(connection, project_id):  # then nobody need count users
        await usage_store.hold(connection, project_id, COUNTED_BY_USER, by_user=False)


async def forget_limits(connection: Connection, project_ids: Collection[str], user_ids: Collection[str]) -> None:
    """These projects and users are deleted, and their limits with them: a user's would go on counting as granted.

    A statement, a query, and up to four statements for each project in which users had limits, for each of those users
    where they go and the project stays.
    """
    await quota_store.delete_limits(connection, project_ids)
    for project_id, user_id in await user_store.read_holders(connection, project_ids, user_ids):
        await reset_user_limits(connection, project_id, user_id)

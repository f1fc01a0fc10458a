"""Quotas of projects, for all APIs: what is in use is counted in the very transaction that takes or frees it.

Here a figure is held from when it is asked for until the transaction ends. What thousands ask for at once, ports and
servers, is counted last (`services.tally`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from muster.domain.quotas import EVERYBODY, UNLIMITED, Ask, Refusal, admit, totals
from muster.store import quotas as quota_store
from muster.store import usages as usage_store
from muster.store.engine import Connection


class Quotas:
    """`defaults` are the limits, by resource, of projects that have none of their own and until others are set."""

    def __init__(self, defaults: Mapping[str, int]) -> None:
        self.defaults = dict(defaults)

    async def admit(self, connection: Connection, asks: Sequence[Ask]) -> list[Refusal | None]:
        """Count what these requests take and say which do not fit; those are not counted.

        One query and one statement. Concurrent transactions that take of the same project wait for each other here, so
        that together they never pass a limit.
        """
        wanted = totals(asks)
        after = await usage_store.add(connection, wanted)
        before = {key: in_use - wanted[key] for key, in_use in after.items()}
        limits = await self.limits(connection, {ask.project_id for ask in asks}, {key[1] for key in wanted})
        outcomes = admit(asks, before, limits)
        refused = [ask for ask, outcome in zip(asks, outcomes, strict=True) if outcome is not None]
        await self.give_back(connection, refused)
        return outcomes

    async def give_back(self, connection: Connection, asks: Iterable[Ask]) -> None:
        """Count these as free again. One statement."""
        freed = {key: -amount for key, amount in totals(asks).items()}
        if freed:
            await usage_store.add(connection, freed)

    async def limits(
        self, connection: Connection, project_ids: Collection[str], resources: Collection[str]
    ) -> dict[tuple[str, str], int]:
        """The limit of each project for each resource; EVERYBODY is a project too. One query."""
        own = await quota_store.read_limits(connection, {*project_ids, EVERYBODY})
        common = {name: own.get((EVERYBODY, name), self.defaults.get(name, UNLIMITED)) for name in resources}
        return {
            (project_id, resource): own.get((project_id, resource), common[resource])
            for project_id in project_ids
            for resource in resources
        }

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
        await quota_store.delete_limits(connection, project_id, resources)

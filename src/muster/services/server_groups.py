"""Server groups, and who may still join them."""

from collections.abc import Mapping

from msgspec import Struct

from muster.base.clock import Clock
from muster.base.coalescer import Coalescer
from muster.base.errors import Forbidden, Invalid, MusterError, NotFound
from muster.domain.context import Context
from muster.domain.quotas import UNLIMITED, Ask, Key
from muster.domain.server_groups import ServerGroup
from muster.services.quotas import Quotas
from muster.services.redecide import redecided, redeciding_calls
from muster.store import server_groups as store
from muster.store.engine import Connection, Database

_GROUPS, _MEMBERS = "server_groups", "server_group_members"


class Joining(Struct, frozen=True):
    """Servers of one request that want to be in a group."""

    project_id: str
    user_id: str
    group_id: str
    count: int


class ServerGroups:
    """The use cases of server groups."""

    def __init__(self, database: Database, quotas: Quotas, clock: Clock) -> None:
        self._database = database
        self._quotas = quotas
        self._clock = clock
        self._reads: Coalescer[str, ServerGroup | None] = Coalescer(
            redecided("server_groups.read", self._read), name="server_groups.read"
        )

    def now(self) -> float:
        """The time at which a group is made."""
        return self._clock()

    @redeciding_calls("server_groups")
    async def create(self, group: ServerGroup) -> None:
        """Make a group. Raises Forbidden beyond the quota."""
        async with self._database.write() as connection:
            [refusal] = await self._quotas.admit(connection, [Ask(group.project_id, {_GROUPS: 1}, group.user_id)])
            if refusal is not None:
                raise Forbidden("Quota exceeded, too many server groups.", code="compute.quota")
            await store.insert_group(connection, group)

    async def page(
        self, project_id: str | None, *, limit: int, offset: int = 0, marker: str | None = None
    ) -> list[ServerGroup]:
        """A project's groups with their members; None for everybody's. Raises Invalid for an unknown marker.

        Two queries, three with a marker.
        """
        async with self._database.read() as connection:
            after = None if marker is None else (await store.read(connection, [marker])).get(marker)
            if marker is not None and (after is None or project_id not in (None, after.project_id)):
                raise Invalid(f"Marker {marker} could not be found.")
            found = await store.read_page(connection, project_id, limit=limit, offset=offset, after=after)
            return await store.with_members(connection, found)

    async def get(self, context: Context, group_id: str) -> ServerGroup:
        """A group with its members. Raises NotFound. Two queries."""
        async with self._database.read() as connection:
            group = _visible(context, (await store.read(connection, [group_id])).get(group_id), group_id)
            [whole] = await store.with_members(connection, [group])
        return whole

    async def check(self, context: Context, group_id: str) -> None:
        """Raises NotFound for a group that the caller may not use. Requests that come together share one query."""
        _visible(context, await self._reads.submit(group_id), group_id)

    @redeciding_calls("server_groups")
    async def delete(self, context: Context, group_id: str) -> None:
        """Delete a group; its servers stay. Raises NotFound."""
        async with self._database.write() as connection:
            group = _visible(context, (await store.read(connection, [group_id])).get(group_id), group_id)
            if not await store.remove(connection, group_id):
                raise _not_found(group_id)
            await self._quotas.give_back(connection, [Ask(group.project_id, {_GROUPS: 1}, group.user_id)])

    async def _read(self, group_ids: list[str]) -> list[ServerGroup | None]:
        async with self._database.read() as connection:
            found = await store.read(connection, set(group_ids))
        return [found.get(group_id) for group_id in group_ids]


async def refuse_joining(
    connection: Connection, quotas: Quotas, joining: Mapping[int, Joining]
) -> dict[int, MusterError]:
    """Which requests, by their index, may not have their servers in a group: it is gone, or would have too many.

    No query where no request names a group, else two.
    """
    if not joining:
        return {}
    members = await store.count_members(connection, {one.group_id for one in joining.values()})
    projects, users = {one.project_id for one in joining.values()}, {one.user_id for one in joining.values()}
    limits = (await quotas.limits_with_users(connection, projects, users, {_MEMBERS})).limits
    refused: dict[int, MusterError] = {}
    for index, one in joining.items():
        there = members.get(one.group_id)
        if there is None:
            refused[index] = Invalid(_not_found(one.group_id).message)
        elif _is_full(one, there, limits):
            refused[index] = Forbidden("Quota exceeded, too many servers in group", code="compute.quota")
        else:
            there[one.user_id] = there.get(one.user_id, 0) + one.count
    return refused


def _is_full(one: Joining, there: Mapping[str, int], limits: Mapping[Key, int]) -> bool:
    """Whether the group would have more members than the project's limit, or more of this user's than the user's."""
    limit = limits[one.project_id, _MEMBERS]
    own = limits.get((one.project_id, one.user_id, _MEMBERS), UNLIMITED)
    return (
        UNLIMITED != limit < sum(there.values()) + one.count or UNLIMITED != own < there.get(one.user_id, 0) + one.count
    )


def _visible(context: Context, group: ServerGroup | None, group_id: str) -> ServerGroup:
    if group is None or not context.sees(group.project_id):
        raise _not_found(group_id)
    return group


def _not_found(group_id: str) -> NotFound:
    return NotFound(f"Instance group {group_id} could not be found.", code="compute.server_group")

"""Finds what new servers' requests name: all requests that wait share one transaction for reading."""

from collections.abc import Sequence

from msgspec.structs import replace

from muster.base.coalescer import Coalescer
from muster.base.errors import MusterError
from muster.domain.quotas import OF_ONE_REQUEST
from muster.domain.server_lookups import DEFAULT_GROUP, Named, Picture, Resolved, resolve
from muster.services.port_batch import PortBatch
from muster.services.redecide import redecided
from muster.store import server_lookups as store
from muster.store.engine import Connection, Database


class ServerLookups:
    """The use case of looking up what a request names."""

    def __init__(self, database: Database, ports: PortBatch) -> None:
        self._database = database
        self._ports = ports
        self._looks: Coalescer[Named, Resolved] = Coalescer(
            redecided("servers.lookups", self._look), name="servers.lookups"
        )

    async def resolve(self, named: Named) -> Resolved:
        """What the request comes to. Raises Invalid, Conflict, Forbidden as Nova answers what is named wrongly.

        Costs a share of at most nine queries, whatever the number of requests.
        """
        return await self._looks.submit(named)

    async def group_picture(self, connection: Connection, project_id: str, name: str) -> Picture:
        """The groups of a project with this id or name; its default group is made if it is asked for."""
        if name == DEFAULT_GROUP:
            await self._ports.default_groups.ensure_default(connection, [project_id])
        return Picture(groups=await store.read_groups(connection, [project_id], [name]))

    async def _look(self, asked: list[Named]) -> Sequence[Resolved | BaseException]:
        async with self._database.read() as connection:
            picture = await store.read_picture(connection, asked)
            if counted := [named.context for named in asked if named.is_limited]:
                projects, users = {one.project_id or "" for one in counted}, {one.user_id for one in counted}
                standing = await self._ports.quotas.limits_with_users(connection, projects, users, OF_ONE_REQUEST)
                picture = replace(picture, limits=standing.limits)
        strangers = {named.context.project_id or "" for named in asked if _wants_new_default(named, picture)}
        if strangers:
            async with self._database.write() as connection:
                await self._ports.default_groups.ensure_default(connection, strangers)
                picture = replace(picture, groups=(await store.read_picture(connection, asked)).groups)
        return [_outcome(named, picture) for named in asked]


def _wants_new_default(named: Named, picture: Picture) -> bool:
    """Whether the request names the default group beside others in a project that has none yet."""
    groups = picture.groups.get(named.context.project_id or "", ())
    return len(named.groups) > 1 and DEFAULT_GROUP in named.groups and all(name != DEFAULT_GROUP for _, name in groups)


def _outcome(named: Named, picture: Picture) -> Resolved | BaseException:
    try:
        return resolve(named, picture)
    except MusterError as error:
        return error

"""Tags of networks, subnets, ports and security groups."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec import Struct

from muster.base.errors import NotFound
from muster.domain.context import Context
from muster.domain.network_errors import disallowed, network_error
from muster.services.redecide import redeciding
from muster.store import networks as network_store
from muster.store import ports as port_store
from muster.store import security_groups as group_store
from muster.store import subnets as subnet_store
from muster.store import tags as store
from muster.store.engine import Connection, Database

# Whether a resource exists and is the caller's to see; raises NotFound.
Look = Callable[[Context, str], Awaitable["Tagged"]]
# What becomes of a resource's tags, in a transaction that has its row.
Change = Callable[[Connection], Awaitable[None]]


class Tagged(Struct, frozen=True):
    """A resource as far as its tags are concerned."""

    project_id: str
    tags: tuple[str, ...]


class NetworkTags:
    """What can be asked of tags. `looks` says, by the path's name of a kind, how one of it is looked up."""

    def __init__(self, database: Database, looks: Mapping[str, Look], clock: Callable[[], float]) -> None:
        self._database = database
        self._looks = looks
        self._clock = clock

    async def get(self, context: Context, kind: str, resource_id: str) -> tuple[str, ...]:
        """The tags of a resource, sorted. Raises NotFound."""
        return (await self._look(context, kind, resource_id)).tags

    async def confirm(self, context: Context, kind: str, resource_id: str, tag: str) -> None:
        """Raises NotFound unless the resource has the tag."""
        if tag not in (await self._look(context, kind, resource_id)).tags:
            raise network_error("TagNotFound", tag=tag)

    async def replace(self, context: Context, kind: str, resource_id: str, tags: Sequence[str]) -> tuple[str, ...]:
        """The resource has exactly these tags. Raises NotFound, Forbidden."""

        async def change(connection: Connection) -> None:
            await store.remove(connection, resource_id)
            await store.add(connection, resource_id, tags)

        await self._change(context, kind, resource_id, change)
        return tuple(sorted(set(tags)))

    async def add(self, context: Context, kind: str, resource_id: str, tags: Sequence[str]) -> None:
        """The resource has these tags too. Raises NotFound, Forbidden."""

        async def change(connection: Connection) -> None:
            await store.add(connection, resource_id, tags)

        await self._change(context, kind, resource_id, change)

    async def remove(self, context: Context, kind: str, resource_id: str, tag: str | None = None) -> None:
        """The resource does not have the tag (None: any tag) any more. Raises NotFound, Forbidden."""

        async def change(connection: Connection) -> None:
            count = await store.remove(connection, resource_id, None if tag is None else [tag])
            if tag is not None and not count:
                raise network_error("TagNotFound", tag=tag)

        await self._change(context, kind, resource_id, change)

    async def _change(self, context: Context, kind: str, resource_id: str, change: Change) -> None:
        """In a transaction that takes the resource's row first, and its tags then, as whoever removes it does."""
        if not context.sees((await self._look(context, kind, resource_id)).project_id):
            raise disallowed(f"update_{kind.removesuffix('s')}:tags".replace("-", "_"))

        async def decide() -> None:
            async with self._database.write() as connection:
                if not await self._touch(connection, kind, resource_id):
                    raise network_error("TagResourceNotFound", resource=kind, resource_id=resource_id)
                await change(connection)

        await redeciding("network_tags", decide)

    async def _look(self, context: Context, kind: str, resource_id: str) -> Tagged:
        look = self._looks.get(kind)
        if look is None:
            raise NotFound("The resource could not be found.", code="http.path")
        try:
            return await look(context, resource_id)
        except NotFound as error:
            raise network_error("TagResourceNotFound", resource=kind, resource_id=resource_id) from error

    async def _touch(self, connection: Connection, kind: str, resource_id: str) -> bool:
        """Raise the resource's revision; False if it has gone meanwhile."""
        now = self._clock()
        if kind == "networks":
            await network_store.touch(connection, [resource_id], now)
            return resource_id in await network_store.read(connection, [resource_id])
        if kind == "subnets":
            await subnet_store.change(connection, resource_id, {}, now)
            return resource_id in await subnet_store.read(connection, [resource_id])
        if kind == "ports":
            return await port_store.change(connection, resource_id, {}, now)
        await group_store.touch(connection, [resource_id], now)
        return resource_id in await group_store.read(connection, [resource_id])

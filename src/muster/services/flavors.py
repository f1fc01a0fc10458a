"""Flavors."""

from collections.abc import Sequence

from muster.base.clock import Clock
from muster.base.coalescer import Coalescer
from muster.base.errors import NotFound
from muster.domain.context import Context
from muster.domain.flavors import Flavor
from muster.store import flavors as store
from muster.store.engine import Database


class Flavors:
    """The use cases of flavors. Requests that come together share one query: there are few flavors, asked for often."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._reads: Coalescer[Context, list[Flavor]] = Coalescer(self._read, name="flavors.read")

    async def ensure(self, wanted: Sequence[Flavor]) -> None:
        """Make the flavors that are not there."""
        async with self._database.write() as connection:
            await store.ensure(connection, wanted, self._clock())

    async def page(self, context: Context) -> list[Flavor]:
        """The flavors that the caller may use."""
        return await self._reads.submit(context)

    async def get(self, context: Context, flavor_id: str) -> Flavor:
        """A flavor. Raises NotFound."""
        for flavor in await self.page(context):
            if flavor.id == flavor_id:
                return flavor
        raise NotFound(f"Flavor {flavor_id} could not be found.", code="compute.flavor")

    async def _read(self, contexts: list[Context]) -> list[list[Flavor]]:
        async with self._database.read() as connection:
            everything = await store.read_seen(connection, None, everything=True)
            private = any(not flavor.is_public for flavor in everything)
            found: dict[tuple[str | None, bool], list[Flavor]] = {}
            for context in contexts:
                key = (context.project_id, context.is_admin)
                if context.is_admin or not private:
                    found[key] = everything
                elif key not in found:
                    found[key] = await store.read_seen(connection, context.project_id, everything=False)
        return [found[context.project_id, context.is_admin] for context in contexts]

"""Flavors: read often, changed seldom, by administrators alone."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from muster.base.clock import Clock
from muster.base.coalescer import Coalescer
from muster.base.errors import Conflict, NotFound
from muster.domain.context import Context
from muster.domain.flavors import Flavor, FlavorQuery, FlavorTable
from muster.services.project_ids import check_project
from muster.services.redecide import redecided, redeciding_calls
from muster.store import flavors as store
from muster.store.engine import Connection, Database, Violation
from muster.store.violations import FOREIGN_KEY


class Flavors:
    """The use cases of flavors.

    Requests that come together share two queries: there are few flavors, asked for often. A request that comes after
    a change was committed begins a read of its own, so it sees the change.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._reads: Coalescer[None, FlavorTable] = Coalescer(
            redecided("flavors.read", self._read), name="flavors.read"
        )

    @redeciding_calls("flavors")
    async def ensure(self, wanted: Sequence[Flavor]) -> None:
        """Make these flavors in a cloud that has none: one that was deleted on purpose does not come back."""
        async with self._database.write() as connection:
            if (await store.read_all(connection)).flavors:
                return
            await store.ensure(connection, [self._dated(flavor) for flavor in wanted])

    async def page(self, context: Context, query: FlavorQuery) -> list[Flavor]:
        """A page of flavors. Raises Invalid for an unknown marker or sort key."""
        return (await self._reads.submit(None)).listed(query, context.project_id)

    async def get(self, context: Context, flavor_id: str) -> Flavor:
        """A flavor that the caller may use. Raises NotFound."""
        table = await self._reads.submit(None)
        flavor = table.flavors.get(flavor_id)
        if flavor is None or not (context.is_admin or table.usable(flavor, context.project_id)):
            raise _not_found(flavor_id)
        return flavor

    @redeciding_calls("flavors")
    async def create(self, flavor: Flavor) -> Flavor:
        """Make a flavor. Raises Conflict for a name or an id that is taken."""
        dated = self._dated(flavor)
        try:
            async with self._database.write() as connection:
                await store.insert_flavor(connection, dated)
        except Violation as error:
            if error.constraint == store.NAME_TAKEN:
                raise Conflict(f"Flavor with name {flavor.name} already exists.", code="compute.flavor_name") from error
            raise Conflict(f"Flavor with ID {flavor.id} already exists.", code="compute.flavor_id") from error
        return dated

    @redeciding_calls("flavors")
    async def describe(self, flavor_id: str, description: str | None) -> Flavor:
        """Change a flavor's description. Raises NotFound."""
        async with self._database.write() as connection:
            flavor = await self._locked(connection, flavor_id)
            return await self._write(connection, replace(flavor, description=description))

    @redeciding_calls("flavors")
    async def merge_extra_specs(self, flavor_id: str, specs: Mapping[str, str]) -> Flavor:
        """Add extra specs to a flavor, or change them; its servers keep theirs. Raises NotFound."""
        async with self._database.write() as connection:
            flavor = await self._locked(connection, flavor_id)
            return await self._write(connection, replace(flavor, extra_specs={**flavor.extra_specs, **specs}))

    @redeciding_calls("flavors")
    async def delete_extra_spec(self, flavor_id: str, key: str) -> None:
        """Take an extra spec from a flavor. Raises NotFound."""
        async with self._database.write() as connection:
            flavor = await self._locked(connection, flavor_id)
            kept = {name: value for name, value in flavor.extra_specs.items() if name != key}
            if len(kept) == len(flavor.extra_specs):
                raise no_extra_spec(flavor_id, key)
            await self._write(connection, replace(flavor, extra_specs=kept))

    @redeciding_calls("flavors")
    async def delete(self, flavor_id: str) -> None:
        """Delete a flavor; servers made of it keep their picture of it. Raises NotFound."""
        async with self._database.write() as connection:
            if not await store.remove(connection, flavor_id):
                raise _not_found(flavor_id)

    async def access(self, flavor_id: str) -> list[str]:
        """The projects that may use a flavor which is not public. Raises NotFound, also for a public one."""
        table = await self._reads.submit(None)
        flavor = table.flavors.get(flavor_id)
        if flavor is None:
            raise _not_found(flavor_id)
        if flavor.is_public:
            raise NotFound("Access list not available for public flavors.", code="compute.flavor_public")
        return sorted(table.access.get(flavor_id, ()))

    @redeciding_calls("flavors")
    async def add_access(self, flavor_id: str, project_id: str) -> None:
        """Give a flavor to a project. Raises NotFound, Invalid for no project, Conflict for one that has it."""
        try:
            async with self._database.write() as connection:
                await check_project(connection, project_id)
                await store.add_access(connection, flavor_id, project_id)
        except Violation as error:
            if error.constraint == FOREIGN_KEY:
                raise _not_found(flavor_id) from error
            raise Conflict(
                f"Flavor access already exists for flavor {flavor_id} and project {project_id} combination.",
                code="compute.flavor_access",
            ) from error

    @redeciding_calls("flavors")
    async def remove_access(self, flavor_id: str, project_id: str) -> None:
        """Take a flavor from a project. Raises NotFound for a flavor that is not, or a project that has it not."""
        async with self._database.write() as connection:
            await self._locked(connection, flavor_id)
            if not await store.remove_access(connection, flavor_id, project_id):
                message = f"Flavor access not found for {flavor_id} / {project_id} combination."
                raise NotFound(message, code="compute.flavor_access")

    async def _locked(self, connection: Connection, flavor_id: str) -> Flavor:
        flavor = await store.read_locked(connection, flavor_id)
        if flavor is None:
            raise _not_found(flavor_id)
        return flavor

    async def _write(self, connection: Connection, flavor: Flavor) -> Flavor:
        changed = replace(flavor, updated_at=self._clock())
        await store.write(connection, changed)
        return changed

    def _dated(self, flavor: Flavor) -> Flavor:
        now = self._clock()
        return replace(flavor, created_at=now, updated_at=now)

    async def _read(self, asked: list[None]) -> list[FlavorTable]:
        async with self._database.read() as connection:
            table = await store.read_all(connection)
        return [table] * len(asked)


def no_extra_spec(flavor_id: str, key: str) -> NotFound:
    """The error of an extra spec that a flavor has not."""
    return NotFound(f"Flavor {flavor_id} has no extra specs with key {key}.", code="compute.extra_spec")


def _not_found(flavor_id: str) -> NotFound:
    return NotFound(f"Flavor {flavor_id} could not be found.", code="compute.flavor")

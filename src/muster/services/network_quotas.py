"""Quotas of the network API: limits per project, and what is in use of them."""

from collections.abc import Mapping

from msgspec import Struct

from muster.domain.context import Context
from muster.domain.network_errors import network_error
from muster.domain.quotas import NETWORK_DEFAULTS
from muster.services.quotas import Quotas
from muster.services.redecide import redeciding_calls
from muster.store import network_quotas as store
from muster.store.engine import Database

RESOURCES = tuple(NETWORK_DEFAULTS)


class QuotaDetail(Struct, frozen=True):
    """A limit, and what is in use of it. Nothing is ever reserved: use is counted where it begins."""

    limit: int
    used: int
    reserved: int = 0


class NetworkQuotas:
    """What can be asked of network quotas."""

    def __init__(self, database: Database, quotas: Quotas) -> None:
        self._database = database
        self._quotas = quotas

    async def get(self, context: Context, project_id: str) -> dict[str, int]:
        """A project's limits by resource. Raises Forbidden for another project's. One query."""
        _check_may_read(context, project_id)
        async with self._database.read() as connection:
            limits = await self._quotas.limits(connection, [project_id], RESOURCES)
        return {resource: limits[project_id, resource] for resource in RESOURCES}

    def defaults(self, context: Context, project_id: str) -> dict[str, int]:
        """The limits of a project that has none of its own. Raises Forbidden for another project's."""
        _check_may_read(context, project_id)
        return {resource: self._quotas.defaults.get(resource, -1) for resource in RESOURCES}

    async def details(self, context: Context, project_id: str) -> dict[str, QuotaDetail]:
        """A project's limits and uses by resource. Raises Forbidden for another project's. Two queries."""
        _check_may_read(context, project_id)
        async with self._database.read() as connection:
            limits = await self._quotas.limits(connection, [project_id], RESOURCES)
            in_use = await self._quotas.in_use(connection, project_id)
        return {name: QuotaDetail(limits[project_id, name], in_use.get(name, 0)) for name in RESOURCES}

    async def all(self) -> dict[str, dict[str, int]]:
        """The limits of all projects that have some of their own, by project. Two queries."""
        async with self._database.read() as connection:
            project_ids = await store.read_projects(connection, RESOURCES)
            limits = await self._quotas.limits(connection, project_ids, RESOURCES)
        return {
            project_id: {resource: limits[project_id, resource] for resource in RESOURCES} for project_id in project_ids
        }

    async def update(
        self, context: Context, project_id: str, limits: Mapping[str, int], *, check_limit: bool
    ) -> dict[str, int]:
        """Set limits. With `check_limit`, raises Conflict for one below what is in use."""
        await self._set(project_id, limits, check_limit=check_limit)
        return await self.get(context, project_id)

    @redeciding_calls("network quotas")
    async def reset(self, project_id: str) -> None:
        """A project's limits are the defaults again."""
        async with self._database.write() as connection:
            await self._quotas.reset_limits(connection, project_id, RESOURCES)

    @redeciding_calls("network quotas")
    async def _set(self, project_id: str, limits: Mapping[str, int], *, check_limit: bool) -> None:
        async with self._database.write() as connection:
            if check_limit:
                in_use = await self._quotas.in_use(connection, project_id)
                unders = sorted(name for name, limit in limits.items() if 0 <= limit < in_use.get(name, 0))
                if unders:
                    raise network_error("InvalidQuotaValue", unders=unders)
            await self._quotas.set_limits(connection, project_id, limits)


def _check_may_read(context: Context, project_id: str) -> None:
    if not context.sees(project_id):
        raise network_error("AdminRequired", reason="Non-admin is not authorised to access quotas of another project")

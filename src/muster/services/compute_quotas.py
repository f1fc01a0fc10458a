"""Quotas of the compute API: limits per project and for everybody, and what is in use of them."""

from collections.abc import Mapping

from msgspec import Struct

from muster.base.errors import Forbidden
from muster.domain.context import Context
from muster.domain.quotas import COMPUTE_DEFAULTS, COUNTED_BY_USER, EVERYBODY, OLD_NETWORK_DEFAULTS
from muster.domain.user_quotas import check, granted, of_project
from muster.services.project_ids import check_project
from muster.services.quotas import Quotas, reset_user_limits
from muster.services.redecide import redeciding_calls
from muster.store import user_quotas as user_store
from muster.store.engine import Connection, Database

RESOURCES = (*COMPUTE_DEFAULTS, *OLD_NETWORK_DEFAULTS)


class QuotaDetail(Struct, frozen=True):
    """A limit, and what is in use of it. Nothing is ever reserved: use is counted where it begins."""

    limit: int
    in_use: int
    reserved: int = 0


class ComputeQuotas:
    """What can be asked of compute's quotas."""

    def __init__(self, database: Database, quotas: Quotas) -> None:
        self._database = database
        self._quotas = quotas

    async def details(self, context: Context, project_id: str, verb: str) -> dict[str, QuotaDetail]:
        """A project's limits and uses by resource.

        Raises Forbidden for another project's, Invalid for what is no project's id. Two queries, three for an admin.
        """
        check_may_read(context, project_id, verb)
        async with self._database.read() as connection:
            if project_id != context.project_id:
                await check_project(connection, project_id)
            return await self._details(connection, project_id)

    async def details_of(self, project_id: str) -> dict[str, QuotaDetail]:
        """The same, whoever asks, and of what is no project's id the limits of everybody. Two queries."""
        async with self._database.read() as connection:
            return await self._details(connection, project_id)

    async def defaults(self) -> dict[str, int]:
        """The limits of a project that has none of its own. One query."""
        async with self._database.read() as connection:
            limits = await self._quotas.limits(connection, [EVERYBODY], RESOURCES)
        return {name: limits[EVERYBODY, name] for name in RESOURCES}

    @redeciding_calls("quotas")
    async def update(self, project_id: str, limits: Mapping[str, int], *, force: bool) -> None:
        """Set limits of a project.

        Raises Invalid for no project, or without `force` for a limit below what is used or was granted to its users.
        """
        async with self._database.write() as connection:
            await check_project(connection, project_id, lock=True)
            if not force:
                await self._check(connection, project_id, limits)
            await self._quotas.set_limits(connection, project_id, limits)

    @redeciding_calls("quotas")
    async def update_defaults(self, limits: Mapping[str, int]) -> None:
        """Set limits of all projects that have none of their own."""
        async with self._database.write() as connection:
            await self._quotas.set_limits(connection, EVERYBODY, limits)

    @redeciding_calls("quotas")
    async def reset(self, project_id: str) -> None:
        """A project's limits are everybody's again, and its users' are the project's."""
        async with self._database.write() as connection:
            await self._quotas.reset_limits(connection, project_id, RESOURCES)
            await reset_user_limits(connection, project_id)

    async def _check(self, connection: Connection, project_id: str, limits: Mapping[str, int]) -> None:
        before = await self._quotas.limits(connection, [project_id], limits)
        in_use = await self._in_use(connection, project_id)
        figures = await user_store.read(connection, project_id)
        users = {key[1:]: figure.hard_limit for key, figure in figures.items()}
        for name, limit in limits.items():
            check(name, limit, of_project(before[project_id, name], granted(users, name), in_use.get(name, 0)))

    async def _details(self, connection: Connection, project_id: str) -> dict[str, QuotaDetail]:
        limits = await self._quotas.limits(connection, [project_id], RESOURCES)
        in_use = await self._in_use(connection, project_id)
        return {name: QuotaDetail(limits[project_id, name], in_use.get(name, 0)) for name in RESOURCES}

    async def _in_use(self, connection: Connection, project_id: str) -> dict[str, int]:
        """What a project has in use: no keys, which are counted per user, and no members, which are per group."""
        in_use = await self._quotas.in_use(connection, project_id)
        return {name: number for name, number in in_use.items() if name in COUNTED_BY_USER}


def check_may_read(context: Context, project_id: str, verb: str) -> None:
    """Raises Forbidden for another project's quotas, in the name of what was asked."""
    if not context.sees(project_id):
        raise Forbidden(f"Policy doesn't allow os_compute_api:{verb} to be performed.", code="http.policy")

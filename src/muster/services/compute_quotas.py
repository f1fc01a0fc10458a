"""Quotas of the compute API: limits per project and for everybody, and what is in use of them."""

from collections.abc import Mapping

from msgspec import Struct

from muster.base.errors import Forbidden, Invalid
from muster.domain.context import Context
from muster.domain.quotas import COMPUTE_DEFAULTS, EVERYBODY, OLD_NETWORK_DEFAULTS, UNLIMITED
from muster.services.project_ids import check_project
from muster.services.quotas import Quotas
from muster.store.engine import Database

RESOURCES = (*COMPUTE_DEFAULTS, *OLD_NETWORK_DEFAULTS)

# Keys are counted per user and a group's members per group, so a project has no figure of them.
_COUNTED = frozenset({"instances", "cores", "ram", "server_groups"})


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

    async def details(self, context: Context, project_id: str, verb: str = "show") -> dict[str, QuotaDetail]:
        """A project's limits and uses by resource.

        Raises Forbidden for another project's, Invalid for what is no project's id. Two queries, three for an admin.
        """
        if not context.sees(project_id):
            raise Forbidden(f"Policy doesn't allow os_compute_api:{verb} to be performed.", code="http.policy")
        async with self._database.read() as connection:
            if project_id != context.project_id:
                await check_project(connection, project_id)
            limits = await self._quotas.limits(connection, [project_id], RESOURCES)
            in_use = await self._quotas.in_use(connection, project_id)
        return {
            name: QuotaDetail(limits[project_id, name], in_use.get(name, 0) if name in _COUNTED else 0)
            for name in RESOURCES
        }

    async def defaults(self) -> dict[str, int]:
        """The limits of a project that has none of its own. One query."""
        async with self._database.read() as connection:
            limits = await self._quotas.limits(connection, [EVERYBODY], RESOURCES)
        return {name: limits[EVERYBODY, name] for name in RESOURCES}

    async def update(self, project_id: str, limits: Mapping[str, int], *, force: bool) -> None:
        """Set limits of a project. Raises Invalid for no project, or without `force` for a limit below what is used."""
        async with self._database.write() as connection:
            await check_project(connection, project_id)
            in_use = {} if force else await self._quotas.in_use(connection, project_id)
            for name, limit in limits.items():
                used = in_use.get(name, 0) if name in _COUNTED else 0
                if limit != UNLIMITED and limit < used:
                    raise Invalid(
                        f"Quota limit {limit} for {name} must be greater than or equal to already used and "
                        f"reserved {used}.",
                        code="compute.quota_in_use",
                    )
            await self._quotas.set_limits(connection, project_id, limits)

    async def update_defaults(self, limits: Mapping[str, int]) -> None:
        """Set limits of all projects that have none of their own."""
        async with self._database.write() as connection:
            await self._quotas.set_limits(connection, EVERYBODY, limits)

    async def reset(self, project_id: str) -> None:
        """A project's limits are everybody's again."""
        async with self._database.write() as connection:
            await self._quotas.reset_limits(connection, project_id, RESOURCES)

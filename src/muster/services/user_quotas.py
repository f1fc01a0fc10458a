"""Limits of single users within a project, as Nova has them.

A user's limit is a part of the project's, and not more than other users' limits leave of it, unless it is forced. Both
limits hold. A user without one may use all that the project has.

Invariant: while a user has a limit, the figures of what is in use are what there is of that user. They are counted when
the limit is set, with the project's figures held: whoever makes or deletes something counts it before or after that. A
process of the version before counts no users; what it changes meanwhile is put right by `recount`.
"""

from collections.abc import Mapping

from muster.base.errors import Invalid
from muster.base.log import get_logger
from muster.domain.context import Context
from muster.domain.quotas import COUNTED_BY_USER
from muster.domain.user_quotas import OF_PROJECT, check, granted, of_user
from muster.services.compute_quotas import RESOURCES, QuotaDetail, check_may_read
from muster.services.project_ids import check_project
from muster.services.quotas import Quotas, reset_user_limits
from muster.services.redecide import redeciding_calls
from muster.store import usages as usage_store
from muster.store import user_quotas as store
from muster.store import users as user_store
from muster.store.engine import Connection, Database

log = get_logger(__name__)


class UserQuotas:
    """What can be asked of the limits of single users."""

    def __init__(self, database: Database, quotas: Quotas) -> None:
        self._database = database
        self._quotas = quotas

    async def limits(self, context: Context, project_id: str, user_id: str, verb: str) -> dict[str, int]:
        """A user's limits in a project, the project's where the user has none.

        Raises Forbidden for another project's, Invalid for what is no project's id. One query, two for an admin.
        """
        check_may_read(context, project_id, verb)
        async with self._database.read() as connection:
            return await self._read(connection, context, project_id, user_id)

    async def details(self, context: Context, project_id: str, user_id: str, verb: str) -> dict[str, QuotaDetail]:
        """As `limits`, with what is in use of them. Two queries more, over the project's servers and groups."""
        check_may_read(context, project_id, verb)
        async with self._database.read() as connection:
            limits = await self._read(connection, context, project_id, user_id)
            in_use = await store.count(connection, project_id, user_id)
        return {name: QuotaDetail(limit, in_use.get((user_id, name), 0)) for name, limit in limits.items()}

    @redeciding_calls("users' quotas")
    async def update(self, project_id: str, user_id: str, limits: Mapping[str, int], *, force: bool) -> None:
        """Set limits of a user in a project.

        Raises Invalid for no project and no user; without `force` also for a limit below what is in use, or beyond what
        the project's limit leaves beside those of its other users.
        """
        own = {name: limit for name, limit in limits.items() if name not in OF_PROJECT}
        async with self._database.write() as connection:
            await check_project(connection, project_id, lock=True)
            await _check_user(connection, user_id)
            if own:
                await usage_store.hold(connection, project_id, COUNTED_BY_USER, by_user=True)
            in_use = await store.count(connection, project_id, user_id)
            mine = {name: in_use.get((user_id, name), 0) for name in limits}
            if not force:
                await self._check(connection, project_id, user_id, limits, mine)
            figures = {name: store.UserFigure(limit, mine[name]) for name, limit in own.items()}
            await store.write(connection, project_id, user_id, figures)
            shared = {name: limit for name, limit in limits.items() if name in OF_PROJECT}
            await self._quotas.set_limits(connection, project_id, shared)

    @redeciding_calls("users' quotas")
    async def reset(self, project_id: str, user_id: str) -> None:
        """A user's limits are the project's again."""
        async with self._database.write() as connection:
            await reset_user_limits(connection, project_id, user_id)

    async def recount(self) -> None:
        """Count anew what users with limits have in use. For one process of the cluster; see `Singleton`.

        A transaction of five statements per project in which users have limits; two go over its servers and groups.
        """
        async with self._database.read() as connection:
            project_ids = await store.read_projects(connection)
        for project_id in project_ids:
            async with self._database.write() as connection:
                await usage_store.add(connection, {(project_id, name): 0 for name in COUNTED_BY_USER})  # held from here
                figures = await store.read(connection, project_id)
                there = await store.count(connection, project_id)
                true = {key: there.get(key[1:], 0) for key in figures if key[2] in COUNTED_BY_USER}
                wrong = {key: number for key, number in true.items() if number != figures[key].in_use}
                await store.write_in_use(connection, wrong)
            if wrong:
                log.warning("users' figures were wrong", action="user_quotas.recount", project=project_id, n=len(wrong))

    async def _read(self, connection: Connection, context: Context, project_id: str, user_id: str) -> dict[str, int]:
        if project_id != context.project_id:
            await check_project(connection, project_id)
        standing = await self._quotas.limits_with_users(connection, [project_id], [user_id], RESOURCES)
        limits = standing.limits
        return {name: limits.get((project_id, user_id, name), limits[project_id, name]) for name in RESOURCES}

    async def _check(
        self,
        connection: Connection,
        project_id: str,
        user_id: str,
        limits: Mapping[str, int],
        in_use: Mapping[str, int],
    ) -> None:
        of_project = await self._quotas.limits(connection, [project_id], limits)
        figures = await store.read(connection, project_id)
        users = {key[1:]: figure.hard_limit for key, figure in figures.items()}
        for name, limit in limits.items():
            others = granted(users, name, but=user_id)
            check(name, limit, of_user(of_project[project_id, name], others, in_use[name]))


async def _check_user(connection: Connection, user_id: str) -> None:
    """It is a user, and stays one until the transaction ends: who deletes it finds what is set here. Raises Invalid."""
    if user_id not in await user_store.read(connection, [user_id], lock=True):
        raise Invalid(f"User ID {user_id} is not a valid user.", code="compute.user")

"""What projects used in a period."""

from collections.abc import Sequence

from muster.base.clock import Clock
from muster.base.errors import Forbidden, Invalid
from muster.domain.context import Context
from muster.domain.tenant_usages import Period, UsedServer
from muster.store import tenant_usages as store
from muster.store.engine import Database


class TenantUsages:
    """The use cases of accounts."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def now(self) -> float:
        """The end of a period that has no other."""
        return self._clock()

    async def read(
        self,
        context: Context,
        period: Period,
        *,
        project_id: str | None,
        limit: int | None = None,
        marker: str | None = None,
    ) -> Sequence[UsedServer]:
        """Servers that were there in a period, of one project or, for admins, of all (None).

        Raises Forbidden for another project's, Invalid for an unknown marker. One query, two with a marker.
        """
        if not (context.is_admin or (project_id is not None and context.sees(project_id))):
            message = "Policy doesn't allow os_compute_api:os-simple-tenant-usage:show to be performed."
            raise Forbidden(message, code="http.policy")
        async with self._database.read() as connection:
            if marker is not None and not await store.exists(connection, marker):
                raise Invalid(f"marker [{marker}] not found")
            return await store.read(connection, period, project_id=project_id, limit=limit, after=marker)

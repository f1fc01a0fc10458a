"""Nova's usage audit over HTTP (`os-instance_usage_audit_log`): no host here writes one, so all have 'not run'.

That is what a Nova answers whose `instance_usage_audit` is off, its default. What servers used is told by
`os-simple-tenant-usage`.
"""

from datetime import UTC, datetime
from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import Invalid
from muster.domain.hypervisors import HypervisorQuery
from muster.domain.policies import Rule
from muster.domain.usage_audits import last_month
from muster.services.hypervisors import Hypervisors

_FORMS = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f")
_FIRST = datetime(1970, 1, 1)  # noqa: DTZ001 - as what is asked for: without a time zone, which is UTC


class UsageAuditHandlers:
    """Handlers of `/os-instance_usage_audit_log`."""

    def __init__(self, hosts: Hypervisors) -> None:
        self._hosts = hosts

    async def index(self, _request: Request) -> Response:
        """The audit of the last month."""
        return Response({"instance_usage_audit_logs": await self._view(datetime.fromtimestamp(self._hosts.now(), UTC))})

    async def show(self, request: Request) -> Response:
        """The audit of the last month before a moment. Raises Invalid for what is none."""
        return Response({"instance_usage_audit_log": await self._view(_moment(request.parameters["before"]))})

    async def _view(self, before: datetime) -> dict[str, Any]:
        begin, end = last_month(before)
        names = [host.hostname for host in await self._hosts.page(HypervisorQuery())]
        return {
            "period_beginning": f"{begin:%Y-%m-%d %H:%M:%S}",
            "period_ending": f"{end:%Y-%m-%d %H:%M:%S}",
            "num_hosts": len(names),
            "num_hosts_done": 0,
            "num_hosts_running": 0,
            "num_hosts_not_run": len(names),
            "hosts_not_run": names,
            "total_instances": 0,
            "total_errors": 0,
            "overall_status": f"0 of {len(names)} hosts done. 0 errors.",
            "log": {},
        }


def _moment(text: str) -> datetime:
    for form in _FORMS:
        try:
            moment = datetime.strptime(text, form)  # noqa: DTZ007 - UTC
        except ValueError:
            continue
        if moment >= _FIRST:
            return moment
    raise Invalid(f"Invalid timestamp for date {text[:64]}")


def usage_audit_routes(hosts: Hypervisors) -> Routes:
    """Method and path to handler and rule."""
    handlers = UsageAuditHandlers(hosts)
    base = "/v2.1/os-instance_usage_audit_log"
    return {
        ("GET", base): Route(handlers.index, Rule.ADMIN),
        ("GET", base + "/{before}"): Route(handlers.show, Rule.ADMIN),
    }

"""`GET /limits`: what a project may have and what it has, in one short list."""

from muster.api.compute.projects import own_project
from muster.api.compute.queries import asked
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import Forbidden
from muster.domain.policies import Rule
from muster.services.compute_quotas import ComputeQuotas

_NEVER = (3, 0)

# Name in the answer, resource, and the first microversion without it.
_LIMITS = (
    ("maxTotalInstances", "instances", _NEVER),
    ("maxTotalCores", "cores", _NEVER),
    ("maxTotalRAMSize", "ram", _NEVER),
    ("maxTotalKeypairs", "key_pairs", _NEVER),
    ("maxServerMeta", "metadata_items", _NEVER),
    ("maxImageMeta", "metadata_items", (2, 39)),
    ("maxServerGroups", "server_groups", _NEVER),
    ("maxServerGroupMembers", "server_group_members", _NEVER),
    ("maxPersonality", "injected_files", (2, 57)),
    ("maxPersonalitySize", "injected_file_content_bytes", (2, 57)),
    ("maxTotalFloatingIps", "floating_ips", (2, 36)),
    ("maxSecurityGroups", "security_groups", (2, 36)),
    ("maxSecurityGroupRules", "security_group_rules", (2, 36)),
)
_USES = (
    ("totalInstancesUsed", "instances", _NEVER),
    ("totalCoresUsed", "cores", _NEVER),
    ("totalRAMUsed", "ram", _NEVER),
    ("totalServerGroupsUsed", "server_groups", _NEVER),
    ("totalFloatingIpsUsed", "floating_ips", (2, 36)),
    ("totalSecurityGroupsUsed", "security_groups", (2, 36)),
)


class LimitHandlers:
    """Handlers of `/limits`."""

    def __init__(self, quotas: ComputeQuotas) -> None:
        self._quotas = quotas

    async def show(self, request: Request) -> Response:
        """The project's limits; an administrator may name another's, and as with Nova no identity service is asked
        whether it is a project. Nothing is ever reserved."""
        query = asked(request, "reserved", "tenant_id")
        if "tenant_id" in query and not request.context.is_admin:
            message = "Policy doesn't allow os_compute_api:limits:other_project to be performed."
            raise Forbidden(message, code="http.policy")
        project_id = query.get("tenant_id") or own_project(request)
        details = await self._quotas.details_of(project_id)
        limits = {name: details[of].limit for name, of, end in _LIMITS if request.version < end}
        uses = {name: details[of].in_use for name, of, end in _USES if request.version < end}
        return Response({"limits": {"rate": [], "absolute": {**limits, **uses}}})


def limit_routes(quotas: ComputeQuotas) -> Routes:
    """Method and path to handler and rule."""
    return {("GET", "/v2.1/limits"): Route(LimitHandlers(quotas).show, Rule.PROJECT_READER)}

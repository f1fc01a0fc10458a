"""Compute services over HTTP: one per host, its agent."""

from typing import Any

from msgspec import Struct

from muster.api.compute.bodies import parse, unexpected
from muster.api.compute.fields import boolean, check_text, refused
from muster.api.compute.hosts import UUIDS, named_host, shown_id
from muster.api.compute.queries import asked
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import Invalid, NotFound
from muster.base.units import iso_plain
from muster.domain.hypervisors import Hypervisor, HypervisorQuery
from muster.domain.policies import Rule
from muster.services.hypervisors import Hypervisors

BINARY = "nova-compute"
_FORCED_DOWN = (2, 11)
_REASON_LIMIT = 255


class OldBody(Struct, forbid_unknown_fields=True):
    """Which service shall be changed, below 2.53; the verb is in the path."""

    host: str
    binary: str
    disabled_reason: str | None = None
    forced_down: bool | str | None = None


class UpdateBody(Struct, forbid_unknown_fields=True):
    """What shall be changed of a service, from 2.53 on."""

    status: str | None = None
    disabled_reason: str | None = None
    forced_down: bool | str | None = None


class ComputeServiceHandlers:
    """Handlers of `/os-services`."""

    def __init__(self, hosts: Hypervisors) -> None:
        self._hosts = hosts

    async def index(self, request: Request) -> Response:
        """All services, or those of a host or a kind."""
        query = asked(request, "host", "binary")
        if query.get("binary", BINARY) != BINARY:
            found = []
        elif "host" in query:
            named = await self._hosts.named(query["host"])
            found = [] if named is None else [named]
        else:
            found = await self._hosts.page(HypervisorQuery())
        return Response({"services": [self._view(request, host) for host in found]})

    async def update(self, request: Request) -> Response:
        """Enable or disable a service, or say that it is down, by its id."""
        body = await parse(request, UpdateBody)
        values = _values(body)
        host = await self._named(request)
        return Response({"service": self._view(request, await self._hosts.change(host, values))})

    async def act(self, request: Request) -> Response:
        """The same below 2.53, by name and by the verb in the path."""
        verb = request.parameters["service_id"]
        if verb not in _VERBS or (verb == "force-down" and request.version < _FORCED_DOWN):
            raise NotFound("Unknown action", code="compute.service_action")
        body = await parse(request, OldBody)
        values = _old_values(verb, body)
        host = await self._hosts.named(_plain(body.host, "host")) if body.binary == BINARY else None
        if host is None:
            message = f"Could not find binary {_plain(body.binary, 'binary')} on host {body.host}."
            raise NotFound(message, code="compute.host")
        await self._hosts.change(host, values)
        return Response({"service": {"host": body.host, "binary": body.binary, **_old_view(verb, values)}})

    async def delete(self, request: Request) -> Response:
        """Forget a service that holds no servers."""
        await self._hosts.delete(await self._named(request))
        return Response(status=204)

    async def change(self, request: Request) -> Response:
        """`PUT` with what is an id from 2.53 on, and was a verb before."""
        return await (self.update(request) if request.version >= UUIDS else self.act(request))

    async def _named(self, request: Request) -> Hypervisor:
        service_id = request.parameters["service_id"]
        return await named_host(request, self._hosts, service_id, f"Service {service_id} could not be found.")

    def _view(self, request: Request, host: Hypervisor) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "id": shown_id(request, host),
            "binary": BINARY,
            "host": host.hostname,
            "zone": host.availability_zone,
            "status": "disabled" if host.disabled else "enabled",
            "state": "up" if self._hosts.is_up(host) else "down",
            "updated_at": iso_plain(host.last_seen_at),
            "disabled_reason": host.disabled_reason,
        }
        return shown | ({"forced_down": host.forced_down} if request.version >= _FORCED_DOWN else {})


def compute_service_routes(hosts: Hypervisors) -> Routes:
    """Method and path to handler and rule."""
    handlers = ComputeServiceHandlers(hosts)
    return {
        ("GET", "/v2.1/os-services"): Route(handlers.index, Rule.ADMIN),
        ("PUT", "/v2.1/os-services/{service_id}"): Route(handlers.change, Rule.ADMIN),
        ("DELETE", "/v2.1/os-services/{service_id}"): Route(handlers.delete, Rule.ADMIN),
    }


# Verbs of old microversions, and what their bodies must have beside host and binary.
_VERBS: dict[str, str | None] = {
    "enable": None,
    "disable": None,
    "disable-log-reason": "disabled_reason",
    "force-down": "forced_down",
}


def _old_values(verb: str, body: OldBody) -> dict[str, Any]:
    for name in ("disabled_reason", "forced_down"):
        given = getattr(body, name) is not None
        if given and name != _VERBS[verb]:
            raise unexpected(name)
        if not given and name == _VERBS[verb]:
            raise Invalid(f"Missing {name} field")
    if verb == "force-down":
        return {"forced_down": boolean(body.forced_down or False, "forced_down")}
    return {"disabled": verb != "enable", "disabled_reason": _reason(body.disabled_reason)}


def _old_view(verb: str, values: dict[str, Any]) -> dict[str, Any]:
    if verb == "force-down":
        return {"forced_down": values["forced_down"]}
    shown: dict[str, Any] = {"status": "disabled" if values["disabled"] else "enabled"}
    return shown | ({"disabled_reason": values["disabled_reason"]} if verb == "disable-log-reason" else {})


def _values(body: UpdateBody) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if body.disabled_reason is not None and body.status != "disabled":
        raise Invalid("Specifying disabled_reason requires that status is 'disabled'.")
    if body.status is not None:
        if body.status not in ("enabled", "disabled"):
            raise refused("status", body.status, "it must be enabled or disabled")
        values |= {"disabled": body.status == "disabled", "disabled_reason": _reason(body.disabled_reason)}
    if body.forced_down is not None:
        values["forced_down"] = boolean(body.forced_down, "forced_down")
    if not values:
        raise Invalid("No updates were requested. Fields 'status' or 'forced_down' should be specified.")
    return values


def _reason(text: str | None) -> str | None:
    if text is not None and not text.strip():
        raise refused("disabled_reason", text, "it must not be empty")
    return check_text(text, "disabled_reason", limit=_REASON_LIMIT)


def _plain(text: str, field: str) -> str:
    check_text(text, field, limit=255)
    return text

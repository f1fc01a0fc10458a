"""What was asked of a server, and what became of it, over HTTP."""

from typing import Any

from muster.api.compute.paging import PageAsked, next_link, page_asked
from muster.api.compute.queries import asked, check_known, moments
from muster.api.compute.server_views import host_hash
from muster.api.compute.services import Services
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.base.errors import Invalid, NotFound
from muster.base.units import iso_plain
from muster.domain.instance_actions import ActionQuery, InstanceAction
from muster.domain.servers import Server

# Nova's names of what a host does for an action.
_EVENTS = {
    "create": "compute__do_build_and_run_instance",
    "delete": "compute_terminate_instance",
    "reboot": "compute_reboot_instance",
    "rebuild": "compute_rebuild_instance",
    "start": "compute_start_instance",
    "stop": "compute_stop_instance",
    "attach_interface": "compute_attach_interface",
    "detach_interface": "compute_detach_interface",
    "lock": "api_lock",
    "unlock": "api_unlock",
}


class ServerInstanceActionHandlers:
    """Handlers of `/servers/{server_id}/os-instance-actions`."""

    def __init__(self, services: Services) -> None:
        self._servers = services.servers

    async def index(self, request: Request) -> Response:
        """What was asked, newest first; in pages from 2.58."""
        query = _query(request)
        _, found = await self._read(request, query)
        shown: dict[str, Any] = {"instanceActions": [_action(request, one) for one in found]}
        if query.limit is not None and found:
            more = next_link(request, "actions", found, PageAsked(query.limit), found[-1].request_id)
            shown |= {"links": more["actions_links"]} if more else {}
        return Response(shown)

    async def show(self, request: Request) -> Response:
        """One action with its events."""
        request_id = request.parameters["action_request_id"]
        server, found = await self._read(request, ActionQuery(request_id=request_id, limit=1))
        if not found:
            raise NotFound(f"Action {request_id[:64]} not found")
        shown = _action(request, found[0])
        if request.context.is_admin or request.version >= (2, 51):
            shown["events"] = [_event(request, server, found[0])]
        return Response({"instanceAction": shown})

    async def _read(self, request: Request, query: ActionQuery) -> tuple[Server, list[InstanceAction]]:
        of_deleted = request.version >= (2, 21)
        server_id = request.parameters["server_id"]
        try:
            return await self._servers.actions(request.context, server_id, query, of_deleted=of_deleted)
        except NotFound as error:
            if error.code == "compute.marker":
                raise Invalid(error.message) from error
            raise


def _query(request: Request) -> ActionQuery:
    if request.version < (2, 58):
        return ActionQuery()
    values = asked(request)
    known = ["limit", "marker", "changes-since"] + (["changes-before"] if request.version >= (2, 66) else [])
    check_known(values, known)
    names = [name for name, _ in request.query]
    if len(names) > len(values):
        raise Invalid("Invalid input for query parameters: each may be there once.")
    since, before = moments(values)
    page = page_asked(values)
    return ActionQuery(changes_since=since, changes_before=before, marker=page.marker, limit=page.limit)


def _action(request: Request, one: InstanceAction) -> dict[str, Any]:
    shown = {
        "action": one.action,
        "instance_uuid": one.server_id,
        "request_id": one.request_id,
        "user_id": one.user_id,
        "project_id": one.project_id,
        "start_time": iso_plain(one.started_at),
        "message": one.message,
    }
    return shown | ({"updated_at": iso_plain(one.updated_at)} if request.version >= (2, 58) else {})


def _event(request: Request, server: Server, one: InstanceAction) -> dict[str, Any]:
    """What the host did for an action: each action is one step of the server's host."""
    failed = one.message is not None
    result = None if one.finished_at is None else "Error" if failed else "Success"
    fault = server.fault if failed else None
    shown: dict[str, Any] = {
        "event": _EVENTS.get(one.action, f"compute_{one.action}"),
        "start_time": iso_plain(one.started_at),
        "finish_time": None if one.finished_at is None else iso_plain(one.finished_at),
        "result": result,
    }
    if request.context.is_admin:
        shown["traceback"] = (fault.details or None) if fault else None
    if request.version >= (2, 62):
        shown["hostId"] = host_hash(server.project_id, server.hostname_of_host)
        if request.context.is_admin:
            shown["host"] = server.hostname_of_host
    if request.version >= (2, 84):
        shown["details"] = fault.message if fault else None
    return shown

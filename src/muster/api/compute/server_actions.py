"""What can be asked of a server: `POST /servers/{id}/action`. The body's only key names the action."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from muster.api.compute.bodies import Uuid, check_any_address, decode, parse
from muster.api.compute.server_bodies import Lookups, new_password
from muster.api.compute.server_schemas import REBUILD_SPANS, RebuildBody, check_fields, injected_files
from muster.api.compute.server_views import rebuilt
from muster.api.compute.servers import changes_of
from muster.api.compute.services import Services
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.base.errors import Forbidden, Invalid, NotFound
from muster.domain.server_changes import check_settled
from muster.domain.server_lookups import Named
from muster.domain.servers import Asked, Verb

# Nova's actions that this cloud does not offer, each with the reason.
_NOT_OFFERED: Mapping[str, str] = {
    "resize": "a server keeps its flavor; make another of the other flavor",
    **dict.fromkeys(("migrate", "os-migrateLive", "evacuate"), "a server stays on its host"),
    **dict.fromkeys(("pause", "suspend", "shelve", "shelveOffload"), "a server runs or is stopped"),
    "rescue": "rebuild the server instead",
    **dict.fromkeys(("createImage", "createBackup"), "images are uploaded, and not made of servers"),
    **dict.fromkeys(
        ("addFloatingIp", "removeFloatingIp"), "there are none; servers are reached at the addresses of their networks"
    ),
    **dict.fromkeys(
        ("os-getVNCConsole", "os-getSPICEConsole", "os-getRDPConsole", "os-getSerialConsole", "os-getMKSConsole"),
        "read the console's log (openstack console log show)",
    ),
    "changePassword": "passwords are set within the guest; give a new server a key pair or user data",
    "trigger_crash_dump": "guests have no crash dumps",
}
# What ends a state that no server here is ever in.
_NEVER_DUE = frozenset({"confirmResize", "revertResize", "unpause", "resume", "unshelve", "unrescue", "restore"})
_INVALID_IN_OUTPUT = re.compile("[\x00-\x08\x0b-\x1f]")


class RebootBody(Struct, forbid_unknown_fields=True):
    """How to reboot."""

    type: Literal["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]


class LockBody(Struct, forbid_unknown_fields=True):
    """Why a server is locked."""

    locked_reason: Annotated[str, Meta(min_length=1, max_length=255)] | UnsetType = UNSET


class OutputBody(Struct, forbid_unknown_fields=True):
    """How many lines of the console, all without a number or with -1."""

    length: Annotated[int, Meta(ge=-1)] | Annotated[str, Meta(pattern=r"\A-?[0-9]{1,18}\Z")] | None = None


class StateBody(Struct, forbid_unknown_fields=True):
    """The state that a server is said to be in."""

    state: Literal["active", "error"]


class GroupBody(Struct, forbid_unknown_fields=True):
    """A security group, by name or id."""

    name: Annotated[str, Meta(min_length=1)]


class NetworkBody(Struct, forbid_unknown_fields=True):
    """Where a server gets a further address."""

    networkId: Uuid  # noqa: N815 - Nova's name


class AddressBody(Struct, forbid_unknown_fields=True):
    """An address that a server has."""

    address: str

    def __post_init__(self) -> None:
        check_any_address(self.address, "address")


class ServerActionHandlers:
    """The handler of a server's actions."""

    def __init__(self, services: Services, lookups: Lookups) -> None:
        self._servers = services.servers
        self._orders = services.orders
        self._changes = services.server_changes
        self._consoles = services.server_consoles
        self._groups = services.server_security_groups
        self._addresses = services.server_addresses
        self._resolver = services.server_lookups
        self._lookups = lookups
        self._clock = services.clock
        self._actions: Mapping[str, Callable[[Request, msgspec.Raw], Awaitable[Response]]] = {
            "os-start": self._start,
            "os-stop": self._stop,
            "reboot": self._reboot,
            "rebuild": self._rebuild,
            "lock": self._lock,
            "unlock": self._unlock,
            "forceDelete": self._force_delete,
            "os-getConsoleOutput": self._console_output,
            "os-resetState": self._reset_state,
            "addSecurityGroup": self._add_group,
            "removeSecurityGroup": self._remove_group,
            "addFixedIp": self._add_address,
            "removeFixedIp": self._remove_address,
            "injectNetworkInfo": self._tell_network,
            "resetNetwork": self._tell_network,
        }

    async def act(self, request: Request) -> Response:
        """One action, named by the only key of the body."""
        body = await parse(request, dict[str, msgspec.Raw])
        if len(body) != 1:
            raise Invalid("Malformed request body: it must name exactly one action.")
        [(name, details)] = body.items()
        if name not in self._actions:
            server = await self._servers.get(request.context, request.parameters["server_id"])
            if name in _NEVER_DUE:
                check_settled(server, name, idle=False, states=())
            if name in _NOT_OFFERED:
                raise Invalid(f"This cloud does not offer the action {name}: {_NOT_OFFERED[name]}.")
            raise Invalid(f"There is no such action: {name[:64]}")
        return await self._actions[name](request, details)

    async def _start(self, request: Request, _details: msgspec.Raw) -> Response:
        return await self._order(request, Asked(verb=Verb.START))

    async def _stop(self, request: Request, _details: msgspec.Raw) -> Response:
        return await self._order(request, Asked(verb=Verb.STOP))

    async def _force_delete(self, request: Request, _details: msgspec.Raw) -> Response:
        return await self._order(request, Asked(verb=Verb.DELETE))

    async def _reboot(self, request: Request, details: msgspec.Raw) -> Response:
        kind = decode(bytes(details), RebootBody).type
        return await self._order(request, Asked(verb=Verb.REBOOT, hard=kind.upper() == "HARD"))

    async def _rebuild(self, request: Request, details: msgspec.Raw) -> Response:
        body = decode(bytes(details), RebuildBody)
        check_fields(body, REBUILD_SPANS, request.version)
        if body.trusted_image_certificates:
            raise Invalid("Trusted image certificates are not offered: images are verified by their hash.")
        server = await self._servers.get(request.context, request.parameters["server_id"])
        image = await self._lookups.image(request.context, body.imageRef, server.flavor)
        values = changes_of(body) | await self._rebuild_values(request, body)
        asked = Asked(verb=Verb.REBUILD, image=image, values=values)
        await self._orders.ask(request.context, server.id, asked, request.request_id)
        server = await self._servers.get(request.context, server.id)
        password = body.adminPass if isinstance(body.adminPass, str) else new_password()
        location = f"{request.base_url}/v2.1/servers/{server.id}"
        shown = rebuilt(request, server, self._clock(), password)
        return Response({"server": shown}, status=202, headers={"Location": location})

    async def _rebuild_values(self, request: Request, body: RebuildBody) -> dict[str, Any]:
        """What a rebuild changes beside the fields that any change may set."""
        files = injected_files(body.personality)
        # As with Nova they are for one disk: those of the disk before are not put onto the new one.
        values: dict[str, Any] = {"injected_files": files}
        if files:
            values["config_drive"] = True
        metadata_items = 0
        if body.metadata is not UNSET:
            values["metadata"] = body.metadata
            metadata_items = len(body.metadata)
        if body.user_data is not UNSET:
            values["user_data"] = body.user_data
        key_name = body.key_name or None
        if key_name is not None or metadata_items or files:
            named = Named(context=request.context, key_name=key_name, metadata_items=metadata_items, files=files)
            resolved = await self._resolver.resolve(named)
            values |= {"key_name": key_name, "public_key": resolved.public_key} if key_name else {}
        if body.key_name is None:
            values |= {"key_name": None, "public_key": None}
        return values

    async def _lock(self, request: Request, details: msgspec.Raw) -> Response:
        reason: str | None = None
        if request.version >= (2, 73):
            body = decode(bytes(details), LockBody | None)  # type: ignore[arg-type]  # a union is a type to msgspec
            reason = body.locked_reason or None if body is not None else None
        await self._changes.lock(request.context, _server_id(request), reason, request.request_id)
        return Response(status=202)

    async def _unlock(self, request: Request, _details: msgspec.Raw) -> Response:
        await self._changes.unlock(request.context, _server_id(request), request.request_id)
        return Response(status=202)

    async def _console_output(self, request: Request, details: msgspec.Raw) -> Response:
        length = decode(bytes(details), OutputBody).length
        n_lines = None if length is None or int(length) < 0 else int(length)
        output = await self._consoles.output(request.context, _server_id(request), n_lines)
        return Response({"output": _INVALID_IN_OUTPUT.sub("", output)})

    async def _reset_state(self, request: Request, details: msgspec.Raw) -> Response:
        await self._check_admin(request, "reset_state")
        state = decode(bytes(details), StateBody).state
        await self._changes.reset_state(request.context, _server_id(request), state, request.request_id)
        return Response(status=202)

    async def _tell_network(self, request: Request, _details: msgspec.Raw) -> Response:
        await self._check_admin(request, "inject_network_info")
        await self._changes.tell_network(request.context, _server_id(request))
        return Response(status=202)

    async def _add_group(self, request: Request, details: msgspec.Raw) -> Response:
        await self._groups.add(request.context, _server_id(request), _group_name(details))
        return Response(status=202)

    async def _remove_group(self, request: Request, details: msgspec.Raw) -> Response:
        await self._groups.remove(request.context, _server_id(request), _group_name(details))
        return Response(status=202)

    async def _add_address(self, request: Request, details: msgspec.Raw) -> Response:
        _check_addresses_offered(request)
        body = decode(bytes(details), NetworkBody)
        await self._addresses.add(request.context, _server_id(request), str(UUID(body.networkId)))
        return Response(status=202)

    async def _remove_address(self, request: Request, details: msgspec.Raw) -> Response:
        _check_addresses_offered(request)
        body = decode(bytes(details), AddressBody)
        await self._addresses.remove(request.context, _server_id(request), body.address)
        return Response(status=202)

    async def _check_admin(self, request: Request, rule: str) -> None:
        """Raises Forbidden for others than admins, NotFound where they do not see the server."""
        if not request.context.is_admin:
            await self._servers.get(request.context, _server_id(request))
            raise Forbidden(f"Policy doesn't allow os_compute_api:os-admin-actions:{rule} to be performed.")

    async def _order(self, request: Request, asked: Asked) -> Response:
        await self._orders.ask(request.context, _server_id(request), asked, request.request_id)
        return Response(status=202)


def _check_addresses_offered(request: Request) -> None:
    """Raises NotFound from 2.44 on: ports are changed instead."""
    if request.version >= (2, 44):
        raise NotFound("The resource could not be found.", code="http.version")


def _group_name(details: msgspec.Raw) -> str:
    name = decode(bytes(details), GroupBody).name
    if not name.strip():
        raise Invalid("Security group name cannot be empty")
    return name


def _server_id(request: Request) -> str:
    return request.parameters["server_id"]

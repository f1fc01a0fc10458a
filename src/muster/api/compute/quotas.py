"""Quotas over HTTP: of projects and of single users in them (`os-quota-sets`), and of all projects that have none of
their own (`os-quota-class-sets`)."""

from collections.abc import Mapping
from typing import Any, TypeVar

from msgspec import Struct

from muster.api.compute.bodies import parse
from muster.api.compute.fields import boolean, check_range, refused
from muster.api.compute.queries import asked, check_known
from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.http.routing import Route, Routes
from muster.base.errors import Invalid, NotFound
from muster.domain.policies import Rule
from muster.domain.quotas import COMPUTE_DEFAULTS, OLD_NETWORK_DEFAULTS
from muster.services.compute_quotas import ComputeQuotas
from muster.services.user_quotas import UserQuotas

_GROUPS = frozenset({"server_groups", "server_group_members"})
_INJECTED = frozenset({"injected_files", "injected_file_content_bytes", "injected_file_path_bytes"})
_DEFAULT_CLASS = "default"
_USER_ID_LIMIT = 64

Value = TypeVar("Value")


class QuotaSetBody(Struct, forbid_unknown_fields=True):
    """The body of `PUT /os-quota-sets/{project_id}`."""

    quota_set: dict[str, Any]


class QuotaClassBody(Struct, forbid_unknown_fields=True):
    """The body of `PUT /os-quota-class-sets/{class_id}`."""

    quota_class_set: dict[str, Any]


class QuotaHandlers:
    """Handlers of `/os-quota-sets`: a project's, or with `user_id` in the query those of a user in it."""

    def __init__(self, quotas: ComputeQuotas, users: UserQuotas) -> None:
        self._quotas = quotas
        self._users = users

    async def show(self, request: Request) -> Response:
        """The limits."""
        return Response({"quota_set": await self._limits(request, "os-quota-sets:show")})

    async def detail(self, request: Request) -> Response:
        """The limits, and what is in use of them."""
        project_id, user_id, verb = request.parameters["project_id"], _user(request), "os-quota-sets:detail"
        if user_id is None:
            details = await self._quotas.details(request.context, project_id, verb)
        else:
            details = await self._users.details(request.context, project_id, user_id, verb)
        return Response({"quota_set": {"id": project_id, **_shown(request, details)}})

    async def defaults(self, request: Request) -> Response:
        """The limits of a project that has none of its own."""
        shown = _shown(request, await self._quotas.defaults())
        return Response({"quota_set": {"id": request.parameters["project_id"], **shown}})

    async def update(self, request: Request) -> Response:
        """Set limits of a project, or of a user in it."""
        project_id, user_id = request.parameters["project_id"], _user(request)
        body = (await parse(request, QuotaSetBody)).quota_set
        force = boolean(_truth_in(body.pop("force", False)), "force")
        limits = _limits(body, _names(request))
        if user_id is None:
            await self._quotas.update(project_id, limits, force=force)
        else:
            await self._users.update(project_id, user_id, limits, force=force)
        shown = await self._limits(request, "os-quota-sets:show")
        return Response({"quota_set": {name: value for name, value in shown.items() if name != "id"}})

    async def delete(self, request: Request) -> Response:
        """A project's limits are everybody's again, and its users' the project's; or those of one user."""
        project_id, user_id = request.parameters["project_id"], _user(request)
        if user_id is None:
            await self._quotas.reset(project_id)
        else:
            await self._users.reset(project_id, user_id)
        return Response(status=202)

    async def _limits(self, request: Request, verb: str) -> dict[str, Any]:
        project_id, user_id = request.parameters["project_id"], _user(request)
        if user_id is None:
            details = await self._quotas.details(request.context, project_id, verb)
            limits = {name: one.limit for name, one in details.items()}
        else:
            limits = await self._users.limits(request.context, project_id, user_id, verb)
        return {"id": project_id, **_shown(request, limits)}


class QuotaClassHandlers:
    """Handlers of `/os-quota-class-sets`. There is one class, `default`."""

    def __init__(self, quotas: ComputeQuotas) -> None:
        self._quotas = quotas

    async def show(self, request: Request) -> Response:
        """The limits of projects that have none of their own."""
        return Response({"quota_class_set": {"id": _class_id(request), **await self._limits(request)}})

    async def update(self, request: Request) -> Response:
        """Set them."""
        _class_id(request)
        body = (await parse(request, QuotaClassBody)).quota_class_set
        await self._quotas.update_defaults(_limits(body, _class_names(request)))
        return Response({"quota_class_set": await self._limits(request)})

    async def _limits(self, request: Request) -> dict[str, int]:
        names = _class_names(request)
        return {name: limit for name, limit in (await self._quotas.defaults()).items() if name in names}


def quota_routes(quotas: ComputeQuotas, users: UserQuotas) -> Routes:
    """Method and path to handler and rule."""
    handlers, classes = QuotaHandlers(quotas, users), QuotaClassHandlers(quotas)
    one = "/v2.1/os-quota-sets/{project_id}"
    of_class = "/v2.1/os-quota-class-sets/{class_id}"
    return {
        ("GET", one): Route(handlers.show, Rule.PROJECT_READER),
        ("PUT", one): Route(handlers.update, Rule.ADMIN),
        ("DELETE", one): Route(handlers.delete, Rule.ADMIN),
        ("GET", one + "/detail"): Route(handlers.detail, Rule.PROJECT_READER),
        ("GET", one + "/defaults"): Route(handlers.defaults, Rule.PROJECT),
        ("GET", of_class): Route(classes.show, Rule.ADMIN),
        ("PUT", of_class): Route(classes.update, Rule.ADMIN),
    }


def _names(request: Request) -> frozenset[str]:
    """What is limited, in the request's microversion."""
    names = frozenset(COMPUTE_DEFAULTS) | frozenset(OLD_NETWORK_DEFAULTS)
    if request.version >= (2, 36):
        names -= frozenset(OLD_NETWORK_DEFAULTS)
    return names - _INJECTED if request.version >= (2, 57) else names


def _class_names(request: Request) -> frozenset[str]:
    names = frozenset(COMPUTE_DEFAULTS) | frozenset(OLD_NETWORK_DEFAULTS)
    names -= frozenset(OLD_NETWORK_DEFAULTS) if request.version >= (2, 50) else _GROUPS
    return names - _INJECTED if request.version >= (2, 57) else names


def _shown(request: Request, values: Mapping[str, Value]) -> dict[str, Value]:
    names = _names(request)
    return {name: value for name, value in values.items() if name in names}


def _limits(body: Mapping[str, Any], names: frozenset[str]) -> dict[str, int]:
    check_known(body, names)
    return {name: check_range(_number(name, value), name, low=-1) for name, value in body.items()}


def _number(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit() and len(value) < 20:
        return int(value)
    raise refused(name, str(value), "it is not a number")


def _truth_in(value: object) -> bool | str:
    if isinstance(value, bool | str):
        return value
    raise refused("force", str(value), "it is not a truth value")


def _user(request: Request) -> str | None:
    """The user whose limits are meant, None for the project's. As in Nova, nobody asks whether there is such a user."""
    user_id = asked(request, "user_id").get("user_id") or None
    if user_id is not None and len(user_id) > _USER_ID_LIMIT:
        raise Invalid(f"Invalid input for query parameters user_id. It may have {_USER_ID_LIMIT} characters.")
    return user_id


def _class_id(request: Request) -> str:
    class_id = request.parameters["class_id"]
    if class_id != _DEFAULT_CLASS:
        raise NotFound(f"Quota class {class_id} could not be found.", code="compute.quota_class")
    return class_id

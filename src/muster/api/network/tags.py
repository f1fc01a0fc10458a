"""Tags over HTTP: `/{networks|subnets|ports|security-groups}/{id}/tags`."""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.api.network.attributes import invalid_value, read_object
from muster.api.network.validators import MAX_TAGS, list_of, tag
from muster.domain.network_errors import bad_request
from muster.services.network_tags import NetworkTags


class Tags:
    """Handlers for one kind of resource, whose id is the path's parameter `parameter`."""

    def __init__(self, service: NetworkTags, kind: str, parameter: str) -> None:
        self._service = service
        self._kind = kind
        self._parameter = parameter

    async def list(self, request: Request) -> Response:
        return Response({"tags": await self._service.get(request.context, self._kind, self._id(request))})

    async def confirm(self, request: Request) -> Response:
        await self._service.confirm(request.context, self._kind, self._id(request), request.parameters["tag"])
        return Response(status=204)

    async def replace(self, request: Request) -> Response:
        body = await read_object(request)
        if not isinstance(body.get("tags"), list) or len(body) != 1:
            raise bad_request("Invalid tags body")
        tags = _checked(list_of(tag, MAX_TAGS), body["tags"])
        return Response({"tags": await self._service.replace(request.context, self._kind, self._id(request), tags)})

    async def add(self, request: Request) -> Response:
        name = _checked(tag, request.parameters["tag"])
        await self._service.add(request.context, self._kind, self._id(request), [name])
        return Response(status=201)

    async def remove(self, request: Request) -> Response:
        await self._service.remove(request.context, self._kind, self._id(request), request.parameters["tag"])
        return Response(status=204)

    async def remove_all(self, request: Request) -> Response:
        await self._service.remove(request.context, self._kind, self._id(request))
        return Response(status=204)

    def _id(self, request: Request) -> str:
        return request.parameters[self._parameter]


def _checked(validate: Any, value: Any) -> Any:
    try:
        return validate(value)
    except ValueError as error:
        raise invalid_value("tags", error) from error

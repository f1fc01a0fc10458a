"""Attributes of resources, and bodies checked against them, in the order and with the words of Neutron.

A resource's table says of each attribute who may set it when, and what it must be; what a table does not know is
refused, and nothing is made of a body that is wrong anywhere.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from muster.api.http.requests import Request
from muster.api.network.validators import Validator, text
from muster.base.errors import MusterError
from muster.domain.context import Context
from muster.domain.network_errors import bad_request, disallowed

_NOTHING = object()


class Attribute(Struct, frozen=True, kw_only=True):
    """One attribute. `field` is its name in the domain's value if that differs.

    `admin` attributes are an admin's to set; `harmless`, their default, passes from anyone on creation.
    """

    validate: Validator
    field: str = ""
    create: bool = True
    update: bool = True
    required: bool = False
    admin: bool = False
    harmless: Any = _NOTHING


class Resource(Struct, frozen=True, kw_only=True):
    """A kind of resource: its names in bodies and its attributes."""

    name: str
    collection: str
    attributes: Mapping[str, Attribute]


def read_only(*names: str) -> dict[str, Attribute]:
    """Attributes that are shown but never set."""
    return {name: Attribute(validate=lambda value: value, create=False, update=False) for name in names}


# What every resource has.
COMMON: Mapping[str, Attribute] = {
    "name": Attribute(validate=text()),
    "description": Attribute(validate=text()),
    "tenant_id": Attribute(validate=text(), field="project_id", update=False),
    "project_id": Attribute(validate=text(), update=False),
    **read_only("id", "created_at", "updated_at", "revision_number"),
}


async def read_new(request: Request, resource: Resource) -> tuple[list[dict[str, Any]], bool]:
    """The fields of the resources that a POST asks for, and whether it is a bulk request (`{"ports": [...]}`).

    Each has its `project_id`: the caller's, or for an admin the one named. Raises Invalid, Forbidden.
    """
    body = await _read(request)
    if resource.collection in body:
        items = body[resource.collection]
        if not isinstance(items, list) or not items:
            raise bad_request("Resources required")
        return [_new(_unwrapped(item, resource), resource, request.context) for item in items], True
    return [_new(_item(body, resource), resource, request.context)], False


async def read_changes(request: Request, resource: Resource) -> dict[str, Any]:
    """The fields that a PUT sets. Raises Invalid, Forbidden."""
    item = _item(await _read(request), resource)
    _check_known(item, resource)
    for name in item:
        if not resource.attributes[name].update:
            raise bad_request(f"Cannot update read-only attribute {name}")
    fields = {}
    for name, value in item.items():
        attribute = resource.attributes[name]
        if attribute.admin and not request.context.is_admin:
            raise disallowed(f"update_{resource.name}:{name}")
        fields[attribute.field or name] = _validated(name, attribute, value)
    return fields


async def read_object(request: Request) -> dict[str, Any]:
    """A body that is a JSON object. Raises Invalid."""
    return await _read(request)


def invalid_value(name: str, reason: object) -> MusterError:
    """The error of a value that its attribute does not take."""
    return bad_request(f"Invalid input for {name}. Reason: {reason}.")


async def _read(request: Request) -> dict[str, Any]:
    data = await request.body()
    if not data:
        raise bad_request("Resource body required")
    try:
        body = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bad_request(f"Malformed request body: {error}") from error
    if not isinstance(body, dict):
        raise bad_request("Malformed request body: it must be a JSON object")
    return body


def _item(body: dict[str, Any], resource: Resource) -> dict[str, Any]:
    item = body.get(resource.name)
    if not isinstance(item, dict) or len(body) != 1:
        raise bad_request(f"Unable to find '{resource.name}' in request body")
    return item


def _unwrapped(item: Any, resource: Resource) -> dict[str, Any]:
    """An item of a bulk request; Neutron also takes each wrapped in its name."""
    if isinstance(item, dict) and set(item) == {resource.name}:
        item = item[resource.name]
    if not isinstance(item, dict):
        raise bad_request(f"Unable to find '{resource.name}' in request body")
    return item


def _new(item: dict[str, Any], resource: Resource, context: Context) -> dict[str, Any]:
    _check_known(item, resource)
    fields: dict[str, Any] = {}
    for name, attribute in resource.attributes.items():
        if name not in item:
            if attribute.required:
                raise bad_request(f"Failed to parse request. Required attribute '{name}' not specified")
            continue
        if not attribute.create:
            raise bad_request(f"Attribute '{name}' not allowed in POST")
        value = _validated(name, attribute, item[name])
        if attribute.admin and not context.is_admin and value != attribute.harmless:
            raise disallowed(f"create_{resource.name}:{name}")
        fields[attribute.field or name] = value
    fields["project_id"] = _project(item, fields, context)
    return fields


def _project(item: dict[str, Any], fields: dict[str, Any], context: Context) -> str:
    if "tenant_id" in item and "project_id" in item and item["tenant_id"] != item["project_id"]:
        raise bad_request("'project_id' and 'tenant_id' do not match")
    project_id = fields.get("project_id", context.project_id)
    if not project_id:
        raise bad_request("The token is not scoped to a project: project_id must be given")
    if project_id != context.project_id and not context.is_admin:
        raise bad_request(
            "Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin "
            "privileges"
        )
    return str(project_id)


def _check_known(item: dict[str, Any], resource: Resource) -> None:
    if unknown := [name for name in item if name not in resource.attributes]:
        shown = ", ".join(name[:80].replace("\x00", "") for name in sorted(unknown)[:10])
        raise bad_request(f"Unrecognized attribute(s) '{shown}'")


def _validated(name: str, attribute: Attribute, value: Any) -> Any:
    try:
        return attribute.validate(value)
    except ValueError as error:
        raise invalid_value(name, error) from error

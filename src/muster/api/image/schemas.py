"""JSON schemas of images and members, and what the service says of itself.

Source: Image service API reference, "Schemas" and "Discovery".
"""

from typing import Any

from muster.api.http.requests import Request
from muster.api.http.responses import Response
from muster.domain.images import CONTAINER_FORMATS, DISK_FORMATS, MemberStatus, Status, Visibility

_UUID = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"


def _text(description: str, *, nullable: bool = False, read_only: bool = False, **more: Any) -> dict[str, Any]:
    kind: Any = ["null", "string"] if nullable else "string"
    made = {"type": kind, "description": description, **more}
    return made | {"readOnly": True} if read_only else made


def _number(description: str, *, read_only: bool = False) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "integer", "description": description}
    return made | {"type": ["null", "integer"], "readOnly": True} if read_only else made


_IMAGE_PROPERTIES: dict[str, Any] = {
    "id": _text("An identifier for the image", pattern=_UUID),
    "name": _text("Descriptive name for the image", nullable=True, maxLength=255),
    "status": _text("Status of the image", read_only=True, enum=list(Status)),
    "visibility": _text("Scope of image accessibility", enum=list(Visibility)),
    "protected": {"type": "boolean", "description": "If true, image will not be deletable."},
    "os_hidden": {"type": "boolean", "description": "If true, image will not appear in default image list response."},
    "checksum": _text("md5 hash of image contents.", nullable=True, read_only=True, maxLength=32),
    "os_hash_algo": _text("Algorithm to calculate os_hash_value", nullable=True, read_only=True, maxLength=64),
    "os_hash_value": _text("Hash of the image contents", nullable=True, read_only=True, maxLength=128),
    "owner": _text("Owner of the image", nullable=True, maxLength=255),
    "size": _number("Size of image file in bytes", read_only=True),
    "virtual_size": _number("Virtual size of image in bytes", read_only=True),
    "container_format": _text("Format of the container", nullable=True, enum=[None, *CONTAINER_FORMATS]),
    "disk_format": _text("Format of the disk", nullable=True, enum=[None, *DISK_FORMATS]),
    "created_at": _text("Date and time of image registration", read_only=True),
    "updated_at": _text("Date and time of the last image modification", read_only=True),
    "tags": {
        "type": "array",
        "description": "List of strings related to the image",
        "items": {"type": "string", "maxLength": 255},
    },
    "min_ram": _number("Amount of ram (in MB) required to boot image."),
    "min_disk": _number("Amount of disk space (in GB) required to boot image."),
    "self": _text("URL of the image", read_only=True),
    "file": _text("URL of the image's content", read_only=True),
    "schema": _text("URL of the schema", read_only=True),
}
_IMAGE: dict[str, Any] = {
    "name": "image",
    "properties": _IMAGE_PROPERTIES,
    "additionalProperties": {"type": "string"},
    "links": [
        {"rel": "self", "href": "{self}"},
        {"rel": "enclosure", "href": "{file}"},
        {"rel": "describedby", "href": "{schema}"},
    ],
}
_MEMBER: dict[str, Any] = {
    "name": "member",
    "properties": {
        "member_id": _text("An identifier for the image member (tenantId)"),
        "image_id": _text("An identifier for the image", pattern=_UUID),
        "created_at": _text("Date and time of image member creation"),
        "updated_at": _text("Date and time of last modification of image member"),
        "status": _text("The status of this image member", enum=list(MemberStatus)),
        "schema": _text("URL of the schema", read_only=True),
    },
}


def _collection(name: str, item: dict[str, Any]) -> dict[str, Any]:
    pages = {key: {"type": "string"} for key in ("first", "next", "schema")} if name == "images" else {}
    links = [{"rel": rel, "href": f"{{{rel}}}"} for rel in ("first", "next")] if name == "images" else []
    properties = {name: {"type": "array", "items": item}, **(pages or {"schema": {"type": "string"}})}
    return {"name": name, "properties": properties, "links": [*links, {"rel": "describedby", "href": "{schema}"}]}


class Schemas:
    """What resources look like."""

    async def image(self, _request: Request) -> Response:
        """`GET /v2/schemas/image`."""
        return Response(_IMAGE)

    async def images(self, _request: Request) -> Response:
        """`GET /v2/schemas/images`."""
        return Response(_collection("images", _IMAGE))

    async def member(self, _request: Request) -> Response:
        """`GET /v2/schemas/member`."""
        return Response(_MEMBER)

    async def members(self, _request: Request) -> Response:
        """`GET /v2/schemas/members`."""
        return Response(_collection("members", _MEMBER))


class Info:
    """What can be done with this service."""

    async def imports(self, _request: Request) -> Response:
        """`GET /v2/info/import`: content comes by upload only."""
        methods = {"description": "Import methods available.", "type": "array", "value": []}
        return Response({"import-methods": methods})

    async def stores(self, _request: Request) -> Response:
        """`GET /v2/info/stores`: one folder."""
        return Response({"stores": [{"id": "file", "description": "The image folder", "default": "true"}]})

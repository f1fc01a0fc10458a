"""The bodies that servers take, as Nova's schemas have them, with the microversion of each field."""

import base64
import binascii
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from muster.api.compute.bodies import (
    Count,
    Description,
    DiskConfig,
    HostLabel,
    Hostname,
    Metadata,
    Name,
    Spans,
    Tag,
    Truth,
    Uuid,
    Version,
    check_address,
    check_any_address,
    check_versions,
    unexpected,
)
from muster.api.compute.fields import check_name, check_printable, refused
from muster.base.errors import Invalid
from muster.domain.specs import InjectedFile

_Base64 = Annotated[str, Meta(max_length=65_535)]
_Text = Annotated[str, Meta(max_length=255)]
_RENAMED = {"disk_config": "OS-DCF:diskConfig"}


class NicBody(Struct, forbid_unknown_fields=True):
    """One wanted interface."""

    uuid: str | UnsetType = UNSET
    port: Uuid | UnsetType | None = UNSET
    fixed_ip: str | UnsetType = UNSET
    tag: Tag | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.fixed_ip is not UNSET:
            check_any_address(self.fixed_ip, "fixed_ip")


class GroupBody(Struct, forbid_unknown_fields=True):
    """A wanted security group, by name or id."""

    name: Name | UnsetType = UNSET


class FileBody(Struct, forbid_unknown_fields=True):
    """A file to be put into the guest."""

    path: Annotated[str, Meta(min_length=1)]
    contents: str

    def __post_init__(self) -> None:
        _check_base64(self.contents, "contents")


class LegacyDeviceBody(Struct, forbid_unknown_fields=True):
    """A block device in the form of the first API."""

    virtual_name: _Text | UnsetType = UNSET
    volume_id: Uuid | UnsetType = UNSET
    snapshot_id: Uuid | UnsetType = UNSET
    volume_size: Count | UnsetType = UNSET
    device_name: Annotated[str, Meta(pattern=r"\A[a-zA-Z0-9._/-]{1,255}\Z")] | UnsetType = UNSET
    delete_on_termination: Truth | UnsetType = UNSET
    no_device: Any = UNSET
    connection_info: str | UnsetType = UNSET


class DeviceBody(LegacyDeviceBody, forbid_unknown_fields=True):
    """A block device."""

    source_type: Literal["volume", "image", "snapshot", "blank"] | UnsetType = UNSET
    destination_type: Literal["local", "volume"] | UnsetType = UNSET
    uuid: Annotated[str, Meta(pattern=r"\A[a-zA-Z0-9._-]{1,255}\Z")] | UnsetType = UNSET
    image_id: Uuid | UnsetType = UNSET
    guest_format: _Text | UnsetType = UNSET
    device_type: _Text | UnsetType = UNSET
    disk_bus: _Text | UnsetType = UNSET
    boot_index: int | Annotated[str, Meta(pattern=r"\A-?[0-9]{1,9}\Z")] | UnsetType | None = UNSET
    tag: Tag | UnsetType = UNSET
    volume_type: _Text | UnsetType | None = UNSET


class _Common(Struct, forbid_unknown_fields=True):
    """What creating, changing and rebuilding have in common."""

    def __post_init__(self) -> None:
        for field, version in (("accessIPv4", 4), ("accessIPv6", 6)):
            address = getattr(self, field)
            if address is not UNSET:
                check_address(address, version, field)
        if getattr(self, "name", UNSET) is not UNSET:
            check_name(self.name)  # type: ignore[attr-defined]
        if getattr(self, "description", UNSET) is not UNSET:
            check_printable(self.description, "description")  # type: ignore[attr-defined]
        user_data = getattr(self, "user_data", UNSET)
        if isinstance(user_data, str):
            _check_base64(user_data, "user_data")


class ServerBody(_Common, forbid_unknown_fields=True, rename=_RENAMED, kw_only=True):
    """The server of `POST /servers`."""

    name: Name
    flavorRef: Annotated[str, Meta(min_length=1)] | int  # noqa: N815 - Nova's name
    imageRef: str = ""  # noqa: N815
    networks: list[NicBody] | Literal["auto", "none"] | UnsetType = UNSET
    metadata: Metadata = {}
    user_data: _Base64 | UnsetType = UNSET
    config_drive: Truth | UnsetType = UNSET
    availability_zone: Name | UnsetType = UNSET
    key_name: Name | UnsetType = UNSET
    security_groups: list[GroupBody] | UnsetType = UNSET
    min_count: Count | UnsetType = UNSET
    max_count: Count | UnsetType = UNSET
    return_reservation_id: Truth | UnsetType = UNSET
    accessIPv4: str | UnsetType = UNSET  # noqa: N815
    accessIPv6: str | UnsetType = UNSET  # noqa: N815
    adminPass: str | UnsetType = UNSET  # noqa: N815
    disk_config: DiskConfig | UnsetType = UNSET
    block_device_mapping: list[LegacyDeviceBody] | UnsetType = UNSET
    block_device_mapping_v2: list[DeviceBody] | UnsetType = UNSET
    personality: list[FileBody] | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    tags: Annotated[list[Tag], Meta(max_length=50)] | UnsetType = UNSET
    trusted_image_certificates: Annotated[list[str], Meta(min_length=1, max_length=50)] | UnsetType | None = UNSET
    host: HostLabel | UnsetType = UNSET
    hypervisor_hostname: HostLabel | UnsetType = UNSET
    hostname: Hostname | UnsetType = UNSET


_HINTS = {"hints": "os:scheduler_hints", "old_hints": "OS-SCH-HNT:scheduler_hints"}


class CreateBody(Struct, forbid_unknown_fields=True, rename=_HINTS):
    """The whole body of `POST /servers`."""

    server: ServerBody
    hints: dict[str, Any] = {}
    old_hints: dict[str, Any] = {}


class ChangedServerBody(_Common, forbid_unknown_fields=True, rename=_RENAMED):
    """The server of `PUT /servers/{server_id}`."""

    name: Name | UnsetType = UNSET
    accessIPv4: str | UnsetType = UNSET  # noqa: N815
    accessIPv6: str | UnsetType = UNSET  # noqa: N815
    disk_config: DiskConfig | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    hostname: Hostname | UnsetType = UNSET


class UpdateBody(Struct, forbid_unknown_fields=True):
    """The body of `PUT /servers/{server_id}`."""

    server: ChangedServerBody


class RebuildBody(_Common, forbid_unknown_fields=True, rename=_RENAMED):
    """The details of the action `rebuild`."""

    imageRef: Uuid  # noqa: N815
    name: Name | UnsetType = UNSET
    adminPass: str | UnsetType = UNSET  # noqa: N815
    metadata: Metadata | UnsetType = UNSET
    preserve_ephemeral: Truth | UnsetType = UNSET
    disk_config: DiskConfig | UnsetType = UNSET
    accessIPv4: str | UnsetType = UNSET  # noqa: N815
    accessIPv6: str | UnsetType = UNSET  # noqa: N815
    personality: list[FileBody] | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    key_name: Name | UnsetType | None = UNSET
    user_data: _Base64 | UnsetType | None = UNSET
    trusted_image_certificates: Annotated[list[str], Meta(min_length=1, max_length=50)] | UnsetType | None = UNSET
    hostname: Hostname | UnsetType = UNSET


SPANS: Spans = {
    "personality": ((2, 1), (2, 56)),
    "description": ((2, 19), None),
    "tags": ((2, 52), None),
    "key_name": ((2, 1), None),
    "trusted_image_certificates": ((2, 63), None),
    "host": ((2, 74), None),
    "hypervisor_hostname": ((2, 74), None),
    "hostname": ((2, 90), None),
}
REBUILD_SPANS: Spans = {**SPANS, "key_name": ((2, 54), None), "user_data": ((2, 57), None)}


_LABEL_LIMIT, _WITH_DOMAIN = 63, (2, 94)


def check_fields(body: ServerBody | ChangedServerBody | RebuildBody, spans: Spans, version: Version) -> None:
    """Raises Invalid for fields that this microversion does not know, and for a host name with a domain before 2.94."""
    check_versions(body, spans, version)
    name = body.hostname
    if isinstance(name, str) and version < _WITH_DOMAIN and ("." in name or len(name) > _LABEL_LIMIT):
        raise refused("hostname", name, f"it may have {_LABEL_LIMIT} characters, and dots from microversion 2.94 on")


def injected_files(bodies: list[FileBody] | UnsetType) -> tuple[InjectedFile, ...]:
    """The files of a request."""
    return () if bodies is UNSET else tuple(InjectedFile(body.path, "".join(body.contents.split())) for body in bodies)


def check_create(body: ServerBody, version: Version) -> None:
    """Raises Invalid for what this microversion does not know in a new server."""
    check_fields(body, SPANS, version)
    if version >= (2, 37):
        if body.networks is UNSET:
            raise Invalid("'networks' is a required property")
    elif isinstance(body.networks, str):
        raise Invalid(f"Invalid input for field/attribute networks. '{body.networks}' is not of type 'array'")
    tagged = version >= (2, 42) or version == (2, 32)
    nics = body.networks if isinstance(body.networks, list) else []
    if any(nic.tag is not UNSET for nic in nics) and not (tagged or (2, 33) <= version <= (2, 36)):
        raise unexpected("tag")
    devices = body.block_device_mapping_v2 if isinstance(body.block_device_mapping_v2, list) else []
    if any(device.tag is not UNSET for device in devices) and not tagged:
        raise unexpected("tag")
    if any(device.volume_type is not UNSET for device in devices) and version < (2, 67):
        raise unexpected("volume_type")


def _check_base64(text: str, field: str) -> None:
    try:
        base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{field}: it is not a 'base64'") from error

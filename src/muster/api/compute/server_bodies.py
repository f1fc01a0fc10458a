"""`POST /servers`: from the body to servers to be made, with everything that the body names looked up."""

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from muster.api.compute.bodies import parse
from muster.api.compute.fields import boolean
from muster.api.compute.projects import own_project
from muster.api.compute.scheduler_hints import group_of
from muster.api.compute.server_schemas import CreateBody, NicBody, ServerBody, check_create, injected_files
from muster.api.compute.services import Services
from muster.api.http.requests import Request
from muster.base.errors import Forbidden, Invalid, MusterError, NotFound
from muster.base.ids import is_uuid, new_secret, new_uuid
from muster.base.units import GIB
from muster.domain.context import Context
from muster.domain.flavors import Flavor
from muster.domain.images import Image, image_spec
from muster.domain.server_lookups import Named, NicAsked, Resolved
from muster.domain.servers import FlavorPicture, NewServer, WantedNic
from muster.domain.specs import ImageSpec

COUNT_LIMIT = 10_000


class Wanted(Struct, frozen=True, kw_only=True):
    """A request, parsed and looked up: `drafts` or, where quotas allow no more, at least `least` of them.

    `groups` are the security groups as the request named them.
    """

    drafts: list[NewServer]
    least: int
    admin_password: str
    reservation_id: str
    answers_reservation: bool
    groups: tuple[str, ...]


class Lookups:
    """Turns bodies into drafts. Raises Invalid for what is named wrongly, as Nova does."""

    def __init__(self, services: Services) -> None:
        self._flavors = services.flavors
        self._images = services.images
        self._lookups = services.server_lookups
        self._server_groups = services.server_groups
        self._clock = services.clock

    async def wanted(self, request: Request) -> Wanted:
        """The servers that the request asks for."""
        accepted_at = self._clock()
        document = await parse(request, CreateBody)
        own_project(request)
        body, context = document.server, request.context
        check_create(body, request.version)
        least, count = _counts(body)
        named = _named(body, context)
        _check_single(body, named, count)
        _check_devices(body)
        flavor = await self._flavor(context, str(body.flavorRef))
        image = await self.image(context, body.imageRef, flavor)
        group_id = await self._group(context, {**document.old_hints, **document.hints})
        resolved = await self._lookups.resolve(named)
        first = _draft(body, request, named, resolved)
        first = replace(first, flavor=flavor, image=image, server_group_id=group_id, accepted_at=accepted_at)
        return Wanted(
            least=least,
            drafts=[_numbered(first, index, count, own_hostname=body.hostname is not UNSET) for index in range(count)],
            admin_password=body.adminPass if isinstance(body.adminPass, str) else new_password(),
            reservation_id=first.reservation_id,
            answers_reservation=body.return_reservation_id is not UNSET
            and boolean(body.return_reservation_id, "return_reservation_id"),
            groups=named.groups or ("default",),
        )

    async def image(self, context: Context, image_id: str, flavor: FlavorPicture) -> ImageSpec:
        """The image, if a server of this flavor can be made of it. Raises Invalid."""
        if not image_id:
            raise Invalid("Missing imageRef attribute")
        if not is_uuid(image_id):
            raise Invalid(f"Invalid input for field/attribute imageRef. '{image_id[:64]}' is not a 'uuid'")
        try:
            image = await self._images.show(context, image_id)
        except NotFound as error:
            raise Invalid("Can not find requested image") from error
        spec = image_spec(image)
        if refusal := _image_refusal(image, spec, flavor):
            raise refusal
        return spec

    async def _group(self, context: Context, hints: Mapping[str, Any]) -> str | None:
        group_id = group_of(hints)
        if group_id is not None:
            try:
                await self._server_groups.check(context, group_id)
            except NotFound as error:
                raise Invalid(error.message) from error
        return group_id

    async def _flavor(self, context: Context, flavor_id: str) -> FlavorPicture:
        try:
            flavor = await self._flavors.get(context, flavor_id.rsplit("/", 1)[-1])
        except NotFound as error:
            raise Invalid(error.message) from error
        return _flavor_picture(flavor)


def new_password() -> str:
    """What is answered as a server's password where the request names none."""
    return new_secret(9)


def canonical(address: str | UnsetType) -> str:
    """An IP address in its canonical form; empty for none."""
    return str(ip_address(address)) if address else ""


def hostname_of(name: str) -> str:
    """A valid host name (RFC 1123) of a server's name, as Nova derives it."""
    text = re.sub(r"[ _.]", "-", name[:63])
    text = re.sub(r"[^a-z0-9-]+", "", text.lower()).strip("-")
    return text or "server"


def _draft(body: ServerBody, request: Request, named: Named, resolved: Resolved) -> NewServer:
    """The first of the servers, without what is looked up one by one."""
    context = request.context
    nics = tuple(_wanted_nic(nic) for nic in resolved.nics)
    return NewServer(
        id="",
        project_id=own_project(request),
        user_id=context.user_id,
        name=body.name,
        hostname=body.hostname if isinstance(body.hostname, str) else hostname_of(body.name),
        flavor=_NO_FLAVOR,
        reservation_id="r-" + new_secret(6).lower().replace("_", "x").replace("-", "x")[:8],
        request_id=request.request_id,
        accepted_at=0.0,
        description=body.description or None,
        key_name=named.key_name,
        public_key=resolved.public_key,
        user_data=body.user_data or None,
        injected_files=named.files,
        metadata=body.metadata,
        # Files come by the drive and no other way.
        config_drive=bool(named.files)
        or (body.config_drive is not UNSET and boolean(body.config_drive, "config_drive")),
        availability_zone=named.zone,
        wanted_hostname=named.hostname,
        disk_config="MANUAL" if body.disk_config is UNSET else body.disk_config,
        access_ip_v4=canonical(body.accessIPv4),
        access_ip_v6=canonical(body.accessIPv6),
        tags=() if body.tags is UNSET else tuple(dict.fromkeys(body.tags)),
        nics=nics,
        security_group_ids=resolved.group_ids,
    )


_NO_FLAVOR = FlavorPicture(id="", name="", vcpus=0, ram_mib=0)


def _numbered(first: NewServer, index: int, count: int, *, own_hostname: bool) -> NewServer:
    """One of the servers of a request, with a name, ports and an id of its own."""
    if count == 1:
        return replace(first, id=new_uuid())
    nics = tuple(replace(nic, new_port_id=new_uuid()) if nic.tag else nic for nic in first.nics)
    return replace(
        first,
        id=new_uuid(),
        name=f"{first.name}-{index + 1}",
        hostname=first.hostname if own_hostname else f"{first.hostname[:58]}-{index + 1}",
        launch_index=index,
        nics=nics,
    )


def _wanted_nic(nic: NicAsked) -> WantedNic:
    return WantedNic(
        network_id=None if nic.port_id else nic.network_id,
        port_id=nic.port_id,
        fixed_ip=nic.fixed_ip,
        tag=nic.tag,
        new_port_id=new_uuid() if nic.tag and not nic.port_id else None,
    )


def _named(body: ServerBody, context: Context) -> Named:
    zone, hostname = _place(body, context)
    networks = body.networks
    bodies: Sequence[NicBody] = networks if isinstance(networks, list) else ()
    groups = [] if body.security_groups is UNSET else body.security_groups
    return Named(
        context=context,
        nics=_nics(bodies),
        any_network=networks != "none" and not bodies,
        groups=tuple(dict.fromkeys(group.name for group in groups if isinstance(group.name, str))),
        key_name=body.key_name or None,
        zone=zone,
        hostname=hostname,
        metadata_items=len(body.metadata),
        files=injected_files(body.personality),
    )


def _nics(bodies: Sequence[NicBody]) -> tuple[NicAsked, ...]:
    nics: list[NicAsked] = []
    ports: set[str] = set()
    for body in bodies:
        if body.port:
            if body.port in ports:
                raise Invalid(f"Port ID '{body.port}' was specified twice: you cannot attach a port multiple times.")
            if body.fixed_ip:
                raise Invalid(
                    f"Specified Fixed IP '{body.fixed_ip}' cannot be used with port '{body.port}': the two cannot be "
                    "specified together."
                )
            ports.add(body.port)
        elif body.uuid is UNSET:
            raise Invalid("Bad network format: missing 'uuid'")
        elif not is_uuid(body.uuid):
            raise Invalid(f"Bad networks format: network uuid is not in proper format ({body.uuid[:64]})")
        nics.append(
            NicAsked(
                network_id=body.uuid or None,
                port_id=body.port or None,
                fixed_ip=str(ip_address(body.fixed_ip)) if body.fixed_ip else None,
                tag=body.tag or None,
            )
        )
    return tuple(nics)


def _place(body: ServerBody, context: Context) -> tuple[str | None, str | None]:
    """(zone, host) that the request names: as `zone:host` or, from 2.74, in fields of their own; for admins."""
    zone, *forced = (body.availability_zone or "").split(":")
    if len(forced) > 2:
        raise Invalid("Unable to parse availability_zone")
    named = {name for name in (body.host, body.hypervisor_hostname) if name}
    if any(forced) and not context.is_admin:
        raise Forbidden("Policy doesn't allow os_compute_api:servers:create:forced_host to be performed.")
    if named and not context.is_admin:
        raise Forbidden("Policy doesn't allow compute:servers:create:requested_destination to be performed.")
    if named and any(forced):
        raise Invalid(
            "One mechanism with host and/or hypervisor_hostname and another mechanism with zone:host:node are "
            "mutually exclusive."
        )
    hostnames = named or {name for name in forced if name}
    if len(hostnames) > 1:
        raise Invalid("No valid host was found. A host has one hypervisor, of its own name.")
    return zone or None, next(iter(hostnames), None)


def _counts(body: ServerBody) -> tuple[int, int]:
    """How many servers, at least and at most: as many as quotas allow."""
    low = 1 if body.min_count is UNSET else int(body.min_count)
    high = low if body.max_count is UNSET else int(body.max_count)
    if not 1 <= low <= high:
        raise Invalid("min_count must be <= max_count" if low > high else "min_count must be at least 1")
    if high > COUNT_LIMIT:
        raise Invalid(f"At most {COUNT_LIMIT} servers can be asked for at once.")
    return low, high


def _check_single(body: ServerBody, named: Named, count: int) -> None:
    """What only one server can have."""
    if count == 1:
        return
    if any(nic.port_id for nic in named.nics):
        raise Invalid(
            "Unable to launch multiple instances with a single configured port ID. Please launch your instance one by "
            "one with different ports."
        )
    if any(nic.fixed_ip for nic in named.nics):
        raise Invalid("max_count cannot be greater than 1 if an fixed_ip is specified.")
    if body.hostname is not UNSET:
        raise Invalid("Unable to allocate a single hostname to multiple instances")


_NO_VOLUMES = "Block Device Mapping is Invalid: this cloud has no volumes, only the image's local disk."


def _check_devices(body: ServerBody) -> None:
    """Raises Invalid for what this cloud does not offer: block devices but the image's disk, certificates."""
    if body.trusted_image_certificates:
        raise Invalid("Trusted image certificates are not offered: images are verified by their hash.")
    devices = [] if body.block_device_mapping_v2 is UNSET else body.block_device_mapping_v2
    if body.block_device_mapping and devices:
        raise Invalid("Using different block_device_mapping syntaxes is not allowed in the same request.")
    if body.block_device_mapping:
        raise Invalid(_NO_VOLUMES)
    for device in devices:
        if device.source_type == "blank" and device.destination_type == "local":
            raise Invalid(
                "Block Device Mapping is Invalid: a server has its image's disk, no swap and no further ones."
            )
        if device.source_type != "image" or device.destination_type == "volume":
            raise Invalid(_NO_VOLUMES)
        if not (device.uuid or device.image_id):
            raise Invalid("Block Device Mapping is Invalid: Missing device UUID.")
        is_boot = device.boot_index not in (UNSET, None) and int(str(device.boot_index)) == 0
        if not (body.imageRef and is_boot and (device.uuid or device.image_id) == body.imageRef):
            raise Invalid("Block Device Mapping is Invalid: Mapping image to local is not supported.")
    if len(devices) > 1:
        raise Invalid(_NO_VOLUMES)


def _image_refusal(image: Image, spec: ImageSpec, flavor: FlavorPicture) -> MusterError | None:
    if image.min_ram > flavor.ram_mib:
        return Invalid("Flavor's memory is too small for requested image.")
    if not flavor.disk_gib:
        return None
    disk = flavor.disk_gib * GIB
    if (image.virtual_size or 0) > disk:
        return Invalid(
            f"Flavor's disk is too small for requested image. Flavor disk is {disk} bytes, image is "
            f"{image.virtual_size} bytes."
        )
    if spec.min_disk_gib > flavor.disk_gib:
        return Invalid(
            "Flavor's disk is smaller than the minimum size specified in image metadata. Flavor disk is "
            f"{disk} bytes, minimum size is {image.min_disk * GIB} bytes."
        )
    return None


def _flavor_picture(flavor: Flavor) -> FlavorPicture:
    return FlavorPicture(
        id=flavor.id,
        name=flavor.name,
        vcpus=flavor.vcpus,
        ram_mib=flavor.ram_mib,
        disk_gib=flavor.disk_gib,
        ephemeral_gib=flavor.ephemeral_gib,
        swap_mib=flavor.swap_mib,
        extra_specs=flavor.extra_specs,
    )

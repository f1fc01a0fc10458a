"""`POST /servers`: from the body to servers to be made, with everything that the body names looked up."""

import base64
import binascii
import re
from typing import Any

from msgspec import Struct

from muster.api.compute.scheduler_hints import group_of
from muster.api.compute.services import Services
from muster.api.http.requests import Request
from muster.base.coalescer import Coalescer
from muster.base.errors import Conflict, Invalid, MusterError, NotFound
from muster.base.ids import is_uuid, new_secret, new_uuid
from muster.domain.context import Context
from muster.domain.network_listing import ListQuery
from muster.domain.servers import FlavorPicture, NewServer, WantedNic
from muster.domain.specs import ImageSpec

USER_DATA_LIMIT = 65_535
COUNT_LIMIT = 10_000


class NicBody(Struct, forbid_unknown_fields=True):
    """One wanted interface."""

    uuid: str | None = None
    port: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None


class ServerBody(Struct, forbid_unknown_fields=True, rename={"disk_config": "OS-DCF:diskConfig"}):
    """What is understood of Nova's body; anything else is refused."""

    name: str
    flavorRef: str | int  # noqa: N815 - Nova's name
    imageRef: str = ""  # noqa: N815
    key_name: str | None = None
    networks: list[NicBody] | str | None = None
    metadata: dict[str, str] = {}
    user_data: str | None = None
    config_drive: bool | str | None = None
    availability_zone: str | None = None
    min_count: int | str | None = None
    max_count: int | str | None = None
    return_reservation_id: bool = False
    description: str | None = None
    hostname: str | None = None
    tags: list[str] = []
    accessIPv4: str = ""  # noqa: N815
    accessIPv6: str = ""  # noqa: N815
    adminPass: str | None = None  # noqa: N815
    block_device_mapping_v2: list[dict[str, Any]] = []
    disk_config: str = "MANUAL"


_HINTS = {"hints": "os:scheduler_hints", "old_hints": "OS-SCH-HNT:scheduler_hints"}


class CreateBody(Struct, forbid_unknown_fields=True, rename=_HINTS):
    """The whole body of `POST /servers`."""

    server: ServerBody
    hints: dict[str, Any] = {}
    old_hints: dict[str, Any] = {}


class Wanted(Struct, frozen=True, kw_only=True):
    """A request, parsed and looked up."""

    drafts: list[NewServer]
    admin_password: str
    reservation_id: str
    answers_reservation: bool


class Lookups:
    """Turns bodies into drafts. Raises Invalid for what is named wrongly, as Nova does."""

    def __init__(self, services: Services) -> None:
        self._flavors = services.flavors
        self._images = services.images
        self._keypairs = services.keypairs
        self._server_groups = services.server_groups
        self._networks = services.networks
        self._clock = services.clock
        self._looks: Coalescer[tuple[Context, str], None] = Coalescer(self._look, name="servers.networks")

    async def wanted(self, request: Request) -> Wanted:
        """The servers that the request asks for."""
        accepted_at = self._clock()
        document = await request.json(CreateBody, strict=False)
        body, context = document.server, request.context
        _check(body, request.version)
        high = _count(body)
        flavor = await self._flavor(context, str(body.flavorRef))
        image = await self._image(context, body, flavor)
        public_key = await self._public_key(context, body.key_name)
        group_id = await self._group(context, {**document.old_hints, **document.hints})
        nics = await self._nics(context, body, request.version)
        if high > 1 and any(nic.fixed_ip or nic.port_id for nic in nics):
            raise Invalid("Unable to launch multiple instances with a single configured port ID or fixed IP.")
        zone, _, hostname = (body.availability_zone or "").partition(":")
        if hostname and not context.is_admin:
            raise Invalid("The requested availability zone is not available")
        reservation_id = "r-" + new_secret(6).lower().replace("_", "x").replace("-", "x")[:8]
        drafts = [
            NewServer(
                id=new_uuid(),
                project_id=context.project_id or "",
                user_id=context.user_id,
                name=body.name if high == 1 else f"{body.name}-{index + 1}",
                hostname=_hostname(body, index, high),
                flavor=flavor,
                reservation_id=reservation_id,
                request_id=request.request_id,
                accepted_at=accepted_at,
                description=body.description if request.version >= (2, 19) else None,
                image=image,
                key_name=body.key_name,
                public_key=public_key,
                server_group_id=group_id,
                user_data=body.user_data,
                metadata=body.metadata,
                config_drive=str(body.config_drive).lower() in ("true", "1", "yes", "on"),
                availability_zone=zone or None,
                wanted_hostname=hostname or None,
                disk_config=body.disk_config,
                access_ip_v4=body.accessIPv4,
                access_ip_v6=body.accessIPv6,
                launch_index=index,
                tags=tuple(dict.fromkeys(body.tags)),
                nics=nics,
            )
            for index in range(high)
        ]
        password = body.adminPass or new_secret(9)
        return Wanted(
            drafts=drafts,
            admin_password=password,
            reservation_id=reservation_id,
            answers_reservation=body.return_reservation_id,
        )

    async def _flavor(self, context: Context, flavor_id: str) -> FlavorPicture:
        try:
            flavor = await self._flavors.get(context, flavor_id.rsplit("/", 1)[-1])
        except NotFound as error:
            raise Invalid(error.message) from error
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

    async def _image(self, context: Context, body: ServerBody, flavor: FlavorPicture) -> ImageSpec:
        image_id = body.imageRef.rsplit("/", 1)[-1] or _image_of_mapping(body)
        if not is_uuid(image_id):
            raise Invalid("Invalid imageRef provided.")
        try:
            image = await self._images.spec(context, image_id)
        except MusterError as error:
            raise Invalid(f"Can not find requested image: {error.message}") from error
        if flavor.disk_gib and image.min_disk_gib > flavor.disk_gib:
            raise Invalid("Flavor's disk is too small for requested image.")
        return image

    async def _public_key(self, context: Context, key_name: str | None) -> str | None:
        if key_name is None:
            return None
        try:
            return (await self._keypairs.get(context, context.user_id, key_name)).public_key
        except NotFound as error:
            raise Invalid("Invalid key_name provided.") from error

    async def _group(self, context: Context, hints: dict[str, Any]) -> str | None:
        group_id = group_of(hints)
        if group_id is not None:
            try:
                await self._server_groups.check(context, group_id)
            except NotFound as error:
                raise Invalid(error.message) from error
        return group_id

    async def _nics(self, context: Context, body: ServerBody, version: tuple[int, int]) -> tuple[WantedNic, ...]:
        if body.networks == "none" and version >= (2, 37):
            return ()
        if isinstance(body.networks, str) and body.networks != "auto":
            raise Invalid("networks must be a list, 'auto' or 'none'.")
        if body.networks is None or isinstance(body.networks, str) or not body.networks:
            return await self._only_network(context)
        for nic in body.networks:
            if not nic.uuid and not nic.port:
                raise Invalid("Network uuid or port is required.")
            if nic.uuid and not nic.port:
                await self._check_network(context, nic.uuid)
        return tuple(
            WantedNic(network_id=None if nic.port else nic.uuid, port_id=nic.port, fixed_ip=nic.fixed_ip)
            for nic in body.networks
        )

    async def _check_network(self, context: Context, network_id: str) -> None:
        try:
            await self._looks.submit((context, network_id))
        except NotFound as error:
            raise Invalid(f"Network {network_id} could not be found.") from error

    async def _look(self, asked: list[tuple[Context, str]]) -> list[BaseException | None]:
        """Look each network up once per project, however many requests of a batch name it."""
        found: dict[tuple[str | None, bool, str], NotFound | None] = {}
        for context, network_id in asked:
            key = (context.project_id, context.is_admin, network_id)
            if key not in found:
                found[key] = await self._looked(context, network_id)
        return [found[context.project_id, context.is_admin, network_id] for context, network_id in asked]

    async def _looked(self, context: Context, network_id: str) -> NotFound | None:
        try:
            await self._networks.get(context, network_id)
        except NotFound as error:
            return error
        return None

    async def _only_network(self, context: Context) -> tuple[WantedNic, ...]:
        found = [
            network
            for network in await self._networks.page(context, ListQuery())
            if not network.router_external and (network.shared or network.project_id == context.project_id)
        ]
        if len(found) > 1:
            raise Conflict("Multiple possible networks found, use a Network ID to be more specific.")
        return tuple(WantedNic(network_id=network.id) for network in found)


def _check(body: ServerBody, version: tuple[int, int]) -> None:
    if not 1 <= len(body.name.strip()) <= 255 or "\x00" in body.name:
        raise Invalid("Invalid input for field/attribute name: it must have 1 to 255 characters.")
    if body.user_data is not None:
        if len(body.user_data) > USER_DATA_LIMIT:
            raise Invalid(f"Invalid input for field/attribute user_data: longer than {USER_DATA_LIMIT} characters.")
        try:
            base64.b64decode(body.user_data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise Invalid("Invalid input for field/attribute user_data: it is not base64.") from error
    if body.disk_config not in ("AUTO", "MANUAL"):
        raise Invalid("OS-DCF:diskConfig must be AUTO or MANUAL.")
    if body.tags and version < (2, 52):
        raise Invalid("Additional properties are not allowed ('tags' was unexpected)")
    if len(body.metadata) > 128 or any(len(text) > 255 for pair in body.metadata.items() for text in pair):
        raise Invalid("Metadata may have 128 entries of 255 characters.")
    if any(
        "\x00" in text
        for text in [*body.tags, *body.metadata, *body.metadata.values(), body.description or "", body.key_name or ""]
    ):
        raise Invalid("Text may not contain NUL characters.")


def _count(body: ServerBody) -> int:
    """How many servers: as many as `max_count` says, which quota admits together or not at all."""
    try:
        low = int(body.min_count or 1)
        high = int(body.max_count or low)
    except ValueError as error:
        raise Invalid("min_count and max_count must be numbers.") from error
    if not 1 <= low <= high:
        raise Invalid("min_count must be <= max_count")
    if high > COUNT_LIMIT:
        raise Invalid(f"At most {COUNT_LIMIT} servers can be asked for at once.")
    return high


def _image_of_mapping(body: ServerBody) -> str:
    mappings = body.block_device_mapping_v2
    image = len(mappings) == 1 and mappings[0].get("source_type") == "image"
    if image and mappings[0].get("destination_type", "local") == "local":
        return str(mappings[0].get("uuid", ""))
    raise Invalid("Block devices other than the image's local disk are not offered.")


def _hostname(body: ServerBody, index: int, count: int) -> str:
    """A valid host name (RFC 1123) of the server's name, as Nova derives it."""
    text = re.sub(r"[^a-z0-9-]+", "-", (body.hostname or body.name).lower()).strip("-")[:55].strip("-")
    text = text or "server"
    return text if count == 1 else f"{text}-{index + 1}"

"""A whole cloud in one process: a control plane, and hosts beside it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec import Struct

from muster.base.log import get_logger
from muster.bus.open import MEMORY
from muster.cli.control_plane import Cloud, PlaneSettings, control_plane
from muster.cli.engines import EngineSettings, opened_engines
from muster.cli.first_data import FirstData
from muster.cli.hosts import RealHost, running_hosts, simulated_host
from muster.cli.images import image_files
from muster.cli.secrets import folder_secret
from muster.domain.addresses import REST_S
from muster.domain.placement import Overcommit, Strategy
from muster.host.agent import HostParts
from muster.host.group import HostGroup
from muster.host.hypervisor.sim import SimSettings
from muster.services import deleted_servers, instance_actions
from muster.services.cluster_secret import ClusterSecret
from muster.services.image_source import LocalImageSource

#: The database's file in a cloud's folder.
DATABASE = "muster.db"
ZONE = "nova"
SIM_ZONE_BESIDE_REAL = "sim"
_INTRODUCED_S = 60.0

log = get_logger(__name__)


class CloudSettings(Struct, frozen=True, kw_only=True):
    """What `muster up` may be told.

    `real_host`: this machine is one more host, in the zone `nova`, and simulated ones are in the zone `sim`; a server
    that names no zone gets a real guest. `guest_image` is the built test guest's file. The URLs name engines that other
    processes share; without them all is in the folder and in this process. `member` is this process's name among them,
    `secret` what they all know: without it, the one that is kept in the folder.
    """

    folder: Path
    sim_hosts: int = 0
    sim: SimSettings = SimSettings()
    overcommit: Overcommit = Overcommit()
    placement: Strategy = Strategy.SPREAD
    address_rest_s: float = REST_S
    keep_deleted_s: float = deleted_servers.KEEP_S
    keep_actions_s: float = instance_actions.KEEP_S
    real_host: RealHost | None = None
    guest_image: Path | None = None
    member: str = "muster"
    database_url: str | None = None
    locks_url: str | None = None
    bus_url: str = MEMORY
    secret: str | None = None


@asynccontextmanager
async def running(settings: CloudSettings, admin_password: str) -> AsyncIterator[Cloud]:
    """A cloud in `settings.folder`, started and, at the end of the block, stopped; its state stays in the folder.

    In the block its hosts take servers.
    """
    plane = PlaneSettings(
        folder=settings.folder,
        secret=ClusterSecret(settings.secret or folder_secret(settings.folder)),
        overcommit=settings.overcommit,
        placement=settings.placement,
        address_rest_s=settings.address_rest_s,
        keep_deleted_s=settings.keep_deleted_s,
        keep_actions_s=settings.keep_actions_s,
        default_zone=ZONE if settings.real_host else None,
    )
    data = FirstData(admin_password=admin_password, scratch=settings.folder, guest_image=settings.guest_image)
    async with (
        opened_engines(_engine_settings(settings)) as engines,
        control_plane(plane, engines, data) as cloud,
        _hosts_of(settings) as parts,
        running_hosts(engines.bus, parts) as hosts,
    ):
        await _introduced(hosts)
        yield cloud


async def _introduced(hosts: HostGroup) -> None:
    """Who is told that the cloud is ready may ask for a server at once, so its hosts are known by then."""
    try:
        async with asyncio.timeout(_INTRODUCED_S):
            await hosts.welcomed()
    except TimeoutError:
        log.warning("some hosts are not known yet: servers can be placed on the others", action="hosts.delayed")


def _engine_settings(settings: CloudSettings) -> EngineSettings:
    locks = settings.folder / "locks"
    return EngineSettings(
        database_url=settings.database_url or f"sqlite:///{settings.folder / DATABASE}",
        locks_url=settings.locks_url or f"file://{locks}",
        token_dir=locks / "tokens",
        bus_url=settings.bus_url,
        member=settings.member,
    )


@asynccontextmanager
async def _hosts_of(settings: CloudSettings) -> AsyncIterator[list[HostParts]]:
    zone = SIM_ZONE_BESIDE_REAL if settings.real_host else ZONE
    parts = [simulated_host(index, settings.sim, zone) for index in range(settings.sim_hosts)]
    async with AsyncExitStack() as stack:
        if settings.real_host is not None:
            source = LocalImageSource(image_files(settings.folder))
            parts.append(await stack.enter_async_context(settings.real_host.parts(source)))
        yield parts

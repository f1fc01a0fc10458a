"""The wiring of a cloud on one machine: every part is made here, once, and handed to those that need it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from typing import Any, Protocol
from uuid import UUID, uuid5

from msgspec import Struct
from starlette.types import ASGIApp

from muster.api.compute.application import application as compute_application
from muster.api.compute.services import Neighbours
from muster.api.compute.services import Services as ComputeServices
from muster.api.compute.services import assemble as assemble_compute
from muster.api.http.application import Application
from muster.api.http.mounts import Mounts
from muster.api.identity.application import application as identity_application
from muster.api.identity.application import assemble as assemble_identity
from muster.api.image.application import application as image_application
from muster.api.image.application import assemble as assemble_image
from muster.api.network.application import application as network_application
from muster.api.network.services import Services as NetworkServices
from muster.api.network.services import assemble as assemble_network
from muster.api.network.services import assemble_batch
from muster.base.clock import system_clock
from muster.base.ids import new_uuid
from muster.base.log import get_logger
from muster.base.tasks import kept_running
from muster.bus.open import MEMORY, open_bus
from muster.bus.protocol import Bus
from muster.cli.guest_image import ensure_guest
from muster.domain.context import Context
from muster.domain.flavors import DEFAULT_FLAVORS
from muster.domain.network_listing import ListQuery
from muster.domain.networks import NewNetwork
from muster.domain.placement import Overcommit, Strategy
from muster.domain.quotas import COMPUTE_DEFAULTS, NETWORK_DEFAULTS, UNLIMITED
from muster.domain.subnets import NewSubnet
from muster.host.agent import HostIdentity, HostParts
from muster.host.group import HostGroup
from muster.host.hypervisor.sim import NullPlumbing, SimHypervisor, SimSettings
from muster.host.ports import ImageSource
from muster.locks.open import open_locks
from muster.locks.protocol import LockService
from muster.services.dispatcher import Dispatcher
from muster.services.host_reports import HostReports
from muster.services.identity_bootstrap import bootstrap
from muster.services.image_files import ImageFiles
from muster.services.image_source import LocalImageSource
from muster.services.outbox import Outbox
from muster.services.passwords import Passwords, PasswordSettings
from muster.services.quotas import Quotas
from muster.services.revocations import Revocations
from muster.services.server_placement import ServerSettings
from muster.services.token_authority import TokenAuthority
from muster.services.token_keys import KeyRepository
from muster.store.engine import Database
from muster.store.schema import bring_to_head

log = get_logger(__name__)

_HOSTS = UUID("5b0c1c5e-8f5a-4c0f-9c57-3d5b8a1f0a01")
_REFRESH_S = 3.0
# How often deletions that a dead process began are looked for; the first time is at the start.
_FINISH_S = 10.0
DEFAULT_CIDR = "10.77.0.0/16"


#: The database's file in a cloud's folder.
DATABASE = "muster.db"
ZONE = "nova"
SIM_ZONE_BESIDE_REAL = "sim"


class CloudSettings(Struct, frozen=True, kw_only=True):
    """What `muster up` may be told.

    `real_host`: this machine is one more host, in the zone `nova`, and simulated ones are in the zone `sim`; a server
    that names no zone gets a real guest. `guest_image` is the built test guest's file. The URLs name engines that other
    processes share; without them all is in the folder and in this process. `member` is this process's name among them.
    """

    folder: Path
    sim_hosts: int = 0
    sim: SimSettings = SimSettings()
    overcommit: Overcommit = Overcommit()
    placement: Strategy = Strategy.SPREAD
    real_host: "RealHost | None" = None
    guest_image: Path | None = None
    member: str = "muster"
    database_url: str | None = None
    locks_url: str | None = None
    bus_url: str = MEMORY


class RealHost(Protocol):
    """A host with real guests, which opens its adapters when the event loop runs."""

    def parts(self, images: ImageSource) -> AbstractAsyncContextManager[HostParts]: ...


class Cloud(Struct, frozen=True, kw_only=True):
    """A running cloud: its application, and what bootstrapping made."""

    application: ASGIApp
    applications: Mapping[str, Application]  # behind it, by prefix
    admin_project_id: str
    admin_user_id: str
    network: NetworkServices
    compute: ComputeServices
    database: Database


@asynccontextmanager
async def running(settings: CloudSettings, admin_password: str) -> AsyncIterator[Cloud]:
    """A cloud in `settings.folder`, started and, at the end of the block, stopped; its state stays in the folder."""
    folder = settings.folder
    database = Database(settings.database_url or f"sqlite:///{folder / DATABASE}")
    await bring_to_head(database)
    locks_url = settings.locks_url or f"file://{folder / 'locks'}"
    locks = await open_locks(locks_url, settings.member, folder / "locks" / "tokens")
    bus = open_bus(settings.bus_url, settings.member, SystemRandom())
    passwords = Passwords(PasswordSettings())
    tasks: list[asyncio.Task[None]] = []
    try:
        cloud, background = await _assemble(settings, database, locks, bus, passwords, admin_password)
        tasks += [asyncio.create_task(kept_running(name, work), name=name) for name, work in background.items()]
        async with _hosts_of(settings) as parts:
            hosts = HostGroup(bus)
            try:
                await hosts.start(parts)
                yield cloud
            finally:
                await hosts.close()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        passwords.close()
        await bus.close()
        await locks.close()
        await database.close()


async def _assemble(
    settings: CloudSettings,
    database: Database,
    locks: LockService,
    bus: Bus,
    passwords: Passwords,
    admin_password: str,
) -> tuple[Cloud, Mapping[str, Callable[[], Coroutine[Any, Any, None]]]]:
    clock = system_clock
    keys = KeyRepository(settings.folder / "keys", max_active_keys=3)
    await asyncio.to_thread(keys.prepare)
    ids = await bootstrap(database, admin_password=admin_password, passwords=passwords, clock=clock)
    revocations = Revocations(database, clock, token_lifetime_s=3600)
    await revocations.refresh()
    authority = TokenAuthority(keys, revocations, clock, cache_size=5000)
    quotas = Quotas({**COMPUTE_DEFAULTS, **NETWORK_DEFAULTS})
    async with database.write() as connection:
        unlimited = dict.fromkeys(quotas.defaults, UNLIMITED)
        await quotas.ensure_limits(connection, ids.admin_project_id, unlimited)
    changes = Outbox(clock)
    batch, groups = assemble_batch(database, locks, quotas, changes, clock=clock, rng=SystemRandom())
    network = assemble_network(database, batch, groups)
    dispatcher = Dispatcher(database, bus, clock)
    image = assemble_image(database, clock, _image_files(settings))
    await image.uploads.sweep()
    await ensure_guest(image, settings.guest_image, settings.folder)
    neighbours = Neighbours(images=image.images, networks=network.networks, bus=bus)
    zone = ZONE if settings.real_host else None
    placing = ServerSettings(default_availability_zone=zone, strategy=settings.placement)
    compute = assemble_compute(database, batch, dispatcher.wake, neighbours, placing)
    await compute.flavors.ensure(DEFAULT_FLAVORS)
    reports = HostReports(database, bus, clock, dispatcher, compute.orders, settings.overcommit)
    admin = Context(user_id=ids.admin_user_id, project_id=ids.admin_project_id, roles=frozenset({"admin"}))
    await _ensure_default_network(network, admin)
    identity = assemble_identity(database, authority, revocations, passwords, clock, token_lifetime_s=3600)
    applications = {
        "identity": identity_application(identity, authority),
        "network": network_application(network, authority),
        "image": image_application(image, authority),
        "compute": compute_application(compute, authority),
    }
    cloud = Cloud(
        application=Mounts(applications),
        applications=applications,
        admin_project_id=ids.admin_project_id,
        admin_user_id=ids.admin_user_id,
        network=network,
        compute=compute,
        database=database,
    )
    return cloud, {
        "outbox": dispatcher.run,
        "reports": reports.run,
        "revocations": partial(_repeating, revocations.refresh, _REFRESH_S),
        "consoles": compute.server_consoles.run,
        "deletions": partial(_repeating, compute.orders.finish_left, _FINISH_S),
    }


async def _ensure_default_network(network: NetworkServices, admin: Context) -> None:
    """A shared network `default` with a /16, in a cloud that has no network yet.

    A start that died between network and subnet left a network that nobody has touched since: it gets its subnet now.
    """
    project_id = admin.project_id or ""
    found = await network.networks.page(admin, ListQuery(limit=2))
    if not found:
        draft = NewNetwork(id=new_uuid(), project_id=project_id, name="default", shared=True)
        found = await network.networks.create(admin, [draft])
    [made, *others] = found
    if others or (made.name, made.project_id, made.shared, made.revision) != ("default", project_id, True, 1):
        return
    subnet = NewSubnet(
        id=new_uuid(),
        project_id=project_id,
        network_id=made.id,
        name="default",
        ip_version=4,
        cidr=DEFAULT_CIDR,
    )
    await network.subnets.create(admin, [subnet])


def _image_files(settings: CloudSettings) -> ImageFiles:
    return ImageFiles(settings.folder / "images")


@asynccontextmanager
async def _hosts_of(settings: CloudSettings) -> AsyncIterator[list[HostParts]]:
    zone = SIM_ZONE_BESIDE_REAL if settings.real_host else ZONE
    parts = [_simulated(index, settings.sim, zone) for index in range(settings.sim_hosts)]
    async with AsyncExitStack() as stack:
        if settings.real_host is not None:
            source = LocalImageSource(_image_files(settings))
            parts.append(await stack.enter_async_context(settings.real_host.parts(source)))
        yield parts


def _simulated(index: int, sim: SimSettings, zone: str) -> HostParts:
    hostname = f"sim-{index:04d}"
    identity = HostIdentity(
        host_id=str(uuid5(_HOSTS, hostname)),
        hostname=hostname,
        hypervisor_type="sim",
        availability_zone=zone,
        firewall=False,
    )
    hypervisor = SimHypervisor(Random(index), sim)  # noqa: S311 - boot times of simulated guests
    leases = hypervisor.leases() if sim.boot_s else None
    return HostParts(identity=identity, hypervisor=hypervisor, plumbing=NullPlumbing(), leases=leases)


async def _repeating(work: Callable[[], Awaitable[None]], every_s: float) -> None:
    while True:
        await work()
        await asyncio.sleep(every_s)

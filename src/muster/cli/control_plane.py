"""The wiring of the control plane: every part is made here, once, and handed to those that need it.

Any number of processes have one each over the same engines; none needs to know of the others.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Any

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
from muster.api.image.host_images import application as host_images
from muster.api.network.application import application as network_application
from muster.api.network.services import Services as NetworkServices
from muster.api.network.services import assemble as assemble_network
from muster.api.network.services import assemble_batch
from muster.base.clock import system_clock
from muster.base.tasks import kept_running, repeating
from muster.cli import heap
from muster.cli.engines import Engines
from muster.cli.first_data import FirstData, Makers, ensure_first_data
from muster.cli.images import ImageParts, OwnImages, image_files, image_parts
from muster.domain.addresses import REST_S
from muster.domain.placement import Overcommit, Strategy
from muster.domain.quotas import COMPUTE_DEFAULTS, NETWORK_DEFAULTS
from muster.services import deleted_servers, instance_actions
from muster.services.cluster_secret import ClusterSecret
from muster.services.deleted_servers import DeletedServers
from muster.services.dispatcher import Dispatcher
from muster.services.host_reports import HostReports
from muster.services.host_watch import HostWatch
from muster.services.image_tickets import ImageTickets
from muster.services.instance_actions import OldActions
from muster.services.outbox import Outbox
from muster.services.passwords import Passwords, PasswordSettings
from muster.services.port_work import PortSettings
from muster.services.quotas import Quotas
from muster.services.readiness import Readiness, of_engines
from muster.services.revocations import Revocations
from muster.services.server_placement import ServerSettings
from muster.services.singleton import Singleton
from muster.services.statistics import Statistics
from muster.services.token_authority import TokenAuthority
from muster.services.token_keys import TokenKeys
from muster.services.tokens import LIFETIME_S
from muster.store.engine import Database

_REFRESH_S = 3.0
# Other processes' rotations: three times before they may rotate again (`token_keys.KNOWN_AFTER_S`).
_KEYS_S = 20.0
# How often deletions that a dead process has begun are looked for.
_FINISH_S = 10.0
# A process that has its database alone knows what it has revoked and rotated, and looks for what has expired only.
_ALONE_S = 60.0
_ROTATE_S = 3_600.0
_PURGE_S = 3_600.0
_RECOUNT_S = 3_600.0
_STATISTICS_S = 5.0
_GIVE_BACK_S = 60.0

Work = Callable[[], Coroutine[Any, Any, None]]


class PlaneSettings(Struct, frozen=True, kw_only=True):
    """What a control plane may be told. Servers that name no zone go to hosts of `default_zone`, or of any.

    A released address rests `address_rest_s` before another port gets it; what is known of a deleted server is kept for
    `keep_deleted_s`, what was asked of one that is there for `keep_actions_s`. Without `own_images` all machines have
    one image folder. `name` is this process's among all of the cluster, the same after a restart. `with_metrics`: they
    are served beside the APIs.
    """

    folder: Path
    secret: ClusterSecret
    overcommit: Overcommit = Overcommit()
    placement: Strategy = Strategy.SPREAD
    default_zone: str | None = None
    address_rest_s: float = REST_S
    keep_deleted_s: float = deleted_servers.KEEP_S
    keep_actions_s: float = instance_actions.KEEP_S
    own_images: OwnImages | None = None
    name: str = "muster"
    with_metrics: bool = True


class Cloud(Struct, frozen=True, kw_only=True):
    """A running control plane: its application, and what bootstrapping made."""

    application: ASGIApp
    applications: Mapping[str, Application]  # behind it, by prefix
    admin_project_id: str
    admin_user_id: str
    network: NetworkServices
    compute: ComputeServices
    database: Database


class _Parts(Struct, frozen=True, kw_only=True):
    makers: Makers
    images: ImageParts
    revocations: Revocations
    applications: Mapping[str, Application]
    host_images: Application
    readiness: Readiness
    background: Mapping[str, Work]


@asynccontextmanager
async def control_plane(settings: PlaneSettings, engines: Engines, data: FirstData) -> AsyncIterator[Cloud]:
    """A control plane over these engines, started and, at the end of the block, stopped.

    Raises what `ensure_first_data` raises.
    """
    passwords = Passwords(PasswordSettings())
    keys = TokenKeys(engines.database, settings.secret, system_clock)
    tasks: list[asyncio.Task[None]] = []
    parts: _Parts | None = None
    try:
        await keys.prepare()
        parts = _assembled(settings, engines, keys, passwords)
        ids = await ensure_first_data(engines, parts.makers, data)
        await parts.revocations.refresh()
        tasks += [asyncio.create_task(kept_running(name, work), name=name) for name, work in parts.background.items()]
        yield Cloud(
            application=Mounts(
                {**parts.applications, "hosts": parts.host_images},
                parts.readiness,
                with_metrics=settings.with_metrics,
            ),
            applications=parts.applications,
            admin_project_id=ids.admin_project_id,
            admin_user_id=ids.admin_user_id,
            network=parts.makers.network,
            compute=parts.makers.compute,
            database=engines.database,
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if parts is not None:
            await parts.images.close()
        passwords.close()


def _assembled(settings: PlaneSettings, engines: Engines, keys: TokenKeys, passwords: Passwords) -> _Parts:
    clock, database = system_clock, engines.database
    revocations = Revocations(database, clock, token_lifetime_s=LIFETIME_S)
    authority = TokenAuthority(keys.ring, revocations, clock, cache_size=5000)
    quotas = Quotas({**COMPUTE_DEFAULTS, **NETWORK_DEFAULTS})
    tickets = ImageTickets(settings.secret, clock)
    dispatcher = Dispatcher(database, engines.bus, clock, tickets=tickets)
    changes = Outbox(clock, dispatcher.wake)
    ports = PortSettings(rest_s=settings.address_rest_s)
    batch, groups = assemble_batch(
        database, engines.locks, quotas, changes, clock=clock, rng=SystemRandom(), settings=ports
    )
    network = assemble_network(database, batch, groups)
    images = image_parts(database, clock, image_files(settings.folder), tickets, settings.own_images)
    image = images.services
    neighbours = Neighbours(images=image.images, networks=network.networks, bus=engines.bus)
    placing = ServerSettings(default_availability_zone=settings.default_zone, strategy=settings.placement)
    compute = assemble_compute(database, batch, neighbours, placing)
    reports = HostReports(database, engines.bus, clock, dispatcher, compute.orders, settings.overcommit)
    identity = assemble_identity(database, authority, revocations, passwords, clock, token_lifetime_s=LIFETIME_S)
    forgotten = DeletedServers(database, clock, settings.keep_deleted_s)
    old_actions = OldActions(database, clock, settings.keep_actions_s)
    alone = database.is_sqlite
    refresh_s, keys_s = (_ALONE_S, _ALONE_S) if alone else (_REFRESH_S, _KEYS_S)
    once: dict[str, Work] = {
        "hosts that are down": HostWatch(database, clock).run,
        "deletions": partial(repeating, compute.orders.finish_left, _FINISH_S),
        "deleted servers": partial(repeating, forgotten.purge, _PURGE_S),
        "old actions": partial(repeating, old_actions.purge, _PURGE_S),
        "users' figures": partial(repeating, compute.user_quotas.recount, _RECOUNT_S),
        **images.once,
        "seals of token keys": partial(repeating, keys.reseal, keys_s),
        "rotation of token keys": partial(repeating, keys.rotate, _ROTATE_S),
    }
    if not alone:
        once["statistics of tables"] = partial(repeating, Statistics(database).refresh, _STATISTICS_S)
    return _Parts(
        makers=Makers(passwords=passwords, quotas=quotas, image=image, network=network, compute=compute),
        images=images,
        revocations=revocations,
        applications={
            "identity": identity_application(identity, authority),
            "network": network_application(network, authority),
            "image": image_application(image, authority),
            "compute": compute_application(compute, authority),
        },
        readiness=of_engines(database, engines.locks, compute.host_questions, settings.name, images.checks),
        host_images=host_images(image.images, tickets, settings.own_images.place if settings.own_images else None),
        background={
            "outbox": dispatcher.run,
            "reports": reports.run,
            "revocations": partial(repeating, revocations.refresh, refresh_s),
            "token keys": partial(repeating, keys.refresh, keys_s),
            "answers of hosts": compute.host_questions.run,
            **images.each,
            "memory": partial(repeating, heap.give_back, _GIVE_BACK_S),
            "for the cluster": Singleton(engines.locks, "periodic", once).run,
        },
    )

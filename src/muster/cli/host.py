"""`muster host`: hosts of a cluster, apart from its control plane. Knows the bus and where images are fetched."""

import asyncio
import contextlib
import importlib
import os
import signal
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from random import SystemRandom

import click
import uvloop
from msgspec.structs import replace

from muster.base.descriptors import allow_many
from muster.base.errors import MusterError
from muster.base.log import LEVELS, configure
from muster.bus.open import open_bus
from muster.cli import heap
from muster.cli.data_folder import held
from muster.cli.foreground import spare_the_garbage_collector, until_interrupted
from muster.cli.hosts import RealHost, RealHostChoices, count_simulated_guests, running_hosts, simulated_host
from muster.cli.metrics import metrics_served
from muster.cli.settings import Settings, read_settings, require_host
from muster.host.agent import AgentSettings, HostParts
from muster.host.hypervisor.sim import SimSettings
from muster.host.image_download import HttpImageSource
from muster.host.image_tickets import ImageTickets


@click.command()
@click.option("--settings", "path", type=click.Path(path_type=Path), required=True, help="The settings file (TOML).")
@click.option("--sim-hosts", type=click.IntRange(0, 20_000), default=0, show_default=True, help="Simulated hosts.")
@click.option("--sim-boot-s", type=click.FloatRange(0, 3600), default=0.0, show_default=True, help="Their boot time.")
@click.option(
    "--first-index",
    type=click.IntRange(0, 1_000_000),
    default=0,
    show_default=True,
    help="Simulated hosts are named sim-INDEX from here on; no two processes may have the same.",
)
@click.option("--libvirt", is_flag=True, help="This machine is one more host, with real guests; needs root.")
@click.option("--log-level", type=click.Choice(LEVELS), default="WARNING", show_default=True, help="Least written.")
def host(*, path: Path, sim_hosts: int, sim_boot_s: float, first_index: int, libvirt: bool, log_level: str) -> None:
    """Run hosts of a cluster, in the foreground, until it is interrupted.

    They know the cluster's RabbitMQ (engines.bus_url) and fetch images from its API (host.api_url); they have no
    database and no locks. Guests go on running when this ends, and the next start takes them up again; `muster down
    --data FOLDER`, with the settings' folder, ends them.
    """
    heap.share()
    allow_many()
    configure(level=log_level)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the event loop hears of it
    if not sim_hosts and not libvirt:
        raise click.UsageError("There are no hosts to run; say --sim-hosts N or --libvirt.")
    path = path.absolute()
    try:
        settings = read_settings(path)
        require_host(settings, path, is_real=libvirt)
        sim = SimSettings(boot_s=sim_boot_s)
        zone = settings.host.zone
        simulated = [simulated_host(index, sim, zone) for index in range(first_index, first_index + sim_hosts)]
        with contextlib.ExitStack() as stack:
            real = _real_host(settings, stack) if libvirt else None
            uvloop.run(until_interrupted(_run(settings, simulated, real)))
    except MusterError as error:
        raise click.ClickException(error.message) from error


def _real_host(settings: Settings, stack: contextlib.ExitStack) -> RealHost:
    """This machine as a host, whose state is in the settings' folder, until the stack is closed."""
    opener: Callable[[Path, RealHostChoices], AbstractContextManager[RealHost]]
    opener = importlib.import_module("muster.cli.requirements").real_host_opener()
    stack.enter_context(held(settings.folder))
    most_guests = int((os.cpu_count() or 1) * settings.host.cpu_overcommit)
    chosen = settings.host
    choices = RealHostChoices(
        most_guests=most_guests,
        host_ip=chosen.host_ip,
        boots=chosen.boots,
        ksm=chosen.ksm,
        lease_time_s=chosen.lease_time_s,
        keep_unknown_s=chosen.keep_unknown_s,
    )
    return stack.enter_context(opener(settings.folder, choices))


async def _run(settings: Settings, simulated: list[HostParts], real: RealHost | None) -> None:
    async with contextlib.AsyncExitStack() as stack:
        bus = open_bus(settings.engines.bus_url, f"{socket.gethostname()}-host", SystemRandom())
        stack.push_async_callback(bus.close)
        parts = list(simulated)
        if real is not None:
            parts.append(await _real_parts(settings, real, stack))
        count_simulated_guests(simulated)
        agents = AgentSettings(stray_grace_s=settings.host.stray_grace_s)
        await stack.enter_async_context(metrics_served(settings.host.metrics_bind, settings.host.metrics_port))
        await stack.enter_async_context(running_hosts(bus, parts, agents))
        spare_the_garbage_collector()
        click.echo(f"Muster's hosts are ready: {len(parts)}")
        await asyncio.Event().wait()


async def _real_parts(settings: Settings, real: RealHost, stack: contextlib.AsyncExitStack) -> HostParts:
    tickets = ImageTickets()
    parts = await stack.enter_async_context(real.parts(HttpImageSource(settings.host.api_url, tickets)))
    identity = replace(parts.identity, availability_zone=settings.host.zone)
    return replace(parts, identity=identity, tickets=tickets)

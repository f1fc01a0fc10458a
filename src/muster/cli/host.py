"""`muster host`: hosts of a cluster, apart from its control plane. Knows the bus and where images are fetched."""

import asyncio
import signal
import socket
from pathlib import Path
from random import SystemRandom

import click
import uvloop

from muster.base.errors import MusterError
from muster.base.log import LEVELS, configure
from muster.bus.open import open_bus
from muster.cli import heap
from muster.cli.foreground import spare_the_garbage_collector, until_interrupted
from muster.cli.hosts import running_hosts, simulated_host
from muster.cli.settings import Settings, read_settings, require_host
from muster.host.agent import HostParts
from muster.host.hypervisor.sim import SimSettings


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
@click.option("--log-level", type=click.Choice(LEVELS), default="WARNING", show_default=True, help="Least written.")
def host(path: Path, sim_hosts: int, sim_boot_s: float, first_index: int, log_level: str) -> None:
    """Run hosts of a cluster, in the foreground, until it is interrupted.

    They know the cluster's RabbitMQ (engines.bus_url), and no database and no locks.
    """
    heap.share()
    configure(level=log_level)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the event loop hears of it
    if not sim_hosts:
        raise click.UsageError("There are no hosts to run; say --sim-hosts N.")
    path = path.absolute()
    try:
        settings = read_settings(path)
        require_host(settings, path, is_real=False)
        sim = SimSettings(boot_s=sim_boot_s)
        zone = settings.host.zone
        parts = [simulated_host(index, sim, zone) for index in range(first_index, first_index + sim_hosts)]
        uvloop.run(until_interrupted(_run(settings, parts)))
    except MusterError as error:
        raise click.ClickException(error.message) from error


async def _run(settings: Settings, parts: list[HostParts]) -> None:
    bus = open_bus(settings.engines.bus_url, f"{socket.gethostname()}-host", SystemRandom())
    try:
        async with running_hosts(bus, parts):
            spare_the_garbage_collector()
            click.echo(f"Muster's hosts are ready: {len(parts)}")
            await asyncio.Event().wait()
    finally:
        await bus.close()

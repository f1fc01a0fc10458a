"""`muster up`: a whole cloud on this machine, in the foreground."""

import asyncio
import contextlib
import importlib
import os
import signal
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import click
import uvloop
from msgspec.structs import replace

from muster.base.descriptors import allow_many
from muster.base.errors import Conflict, MusterError
from muster.base.log import LEVELS, configure
from muster.cli import heap
from muster.cli.boots import BOOTS
from muster.cli.built_guest import image_for_cloud
from muster.cli.cloud import DATABASE, CloudSettings, running
from muster.cli.data_folder import SERVE_LOCK, held
from muster.cli.foreground import spare_the_garbage_collector, until_interrupted
from muster.cli.hosts import RealHost, RealHostChoices
from muster.cli.listening import bound, listening, url_of
from muster.cli.secrets import admin_password, write_clouds_yaml
from muster.domain.placement import Overcommit, Strategy
from muster.host.boot_settings import AUTOMATIC, UNLIMITED
from muster.host.hypervisor.sim import SimSettings
from muster.host.ksm import KsmMode
from muster.host.lease_time import LEASE_S, SHORTEST_LEASE_S

_DRAIN_S = 5.0


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("var/cloud"), show_default=True, help="Folder.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8774, show_default=True, help="0 for any free one.")
@click.option("--bind", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--sim-hosts", type=click.IntRange(0, 20_000), default=10, show_default=True, help="Simulated hosts.")
@click.option("--sim-boot-s", type=click.FloatRange(0, 3600), default=0.0, show_default=True, help="Their boot time.")
@click.option(
    "--sim-stop-s", type=click.FloatRange(0, 3600), default=0.0, show_default=True, help="The time in which they stop."
)
@click.option(
    "--sim-start-fails",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="P",
    help="Probability that a simulated guest does not start: its server is in ERROR, with a fault.",
)
@click.option(
    "--sim-dies",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="P",
    help=f"Probability that one dies within {SimSettings().dies_within_s:g} s after its boot: its server is SHUTOFF.",
)
@click.option(
    "--placement",
    type=click.Choice([strategy.value for strategy in Strategy]),
    default=Strategy.SPREAD.value,
    show_default=True,
    help="A new server's host: the one with the most memory left, or with the least that is enough.",
)
@click.option(
    "--cpu-overcommit",
    type=click.FloatRange(0.1, 100),
    default=Overcommit().cpu,
    show_default=True,
    help="Virtual processors that a host takes for each of its own.",
)
@click.option(
    "--ram-overcommit",
    type=click.FloatRange(0.1, 10),
    default=Overcommit().ram,
    show_default=True,
    help="The same for memory; beyond the default, hosts have been seen to run out of it.",
)
@click.option(
    "--ksm",
    type=click.Choice([mode.value for mode in KsmMode]),
    default=KsmMode.AUTO.value,
    show_default=True,
    help="Merge equal pages of real guests: always, while memory is scarce (auto), or as others manage it (off).",
)
@click.option("--libvirt", is_flag=True, help="This machine is one more host, with real guests; needs root.")
@click.option(
    "--boots",
    type=BOOTS,
    default=AUTOMATIC,
    show_default=True,
    metavar="N",
    help=f"Real guests that boot at a time: a number, {UNLIMITED}, or {AUTOMATIC}: what the machine bears.",
)
@click.option(
    "--lease-s",
    type=click.IntRange(SHORTEST_LEASE_S, 2**31),
    default=LEASE_S,
    show_default=True,
    help="Seconds that a real guest's DHCP lease lasts; it renews at half of them.",
)
@click.option("--log-level", type=click.Choice(LEVELS), default="WARNING", show_default=True, help="Least written.")
def up(  # noqa: PLR0913 - one per option
    *,
    data: Path,
    port: int,
    bind: str,
    sim_hosts: int,
    sim_boot_s: float,
    sim_stop_s: float,
    sim_start_fails: float,
    sim_dies: float,
    placement: str,
    cpu_overcommit: float,
    ram_overcommit: float,
    ksm: str,
    libvirt: bool,
    boots: str,
    lease_s: int,
    log_level: str,
) -> None:
    """Run a whole cloud on this machine, in the foreground, until it is interrupted.

    Its state is kept in the folder DATA; DATA/clouds.yaml tells clients how to reach it.

    With --libvirt, a server that names no availability zone is a real guest, and simulated hosts are in the zone
    `sim`. Guests go on running when this ends, and the next start takes them up again; `muster down` ends them.
    """
    heap.share()
    allow_many()
    configure(level=log_level)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the event loop hears of it
    data = data.absolute()
    settings = CloudSettings(
        folder=data,
        sim_hosts=sim_hosts,
        sim=SimSettings(boot_s=sim_boot_s, stop_s=sim_stop_s, start_fails=sim_start_fails, dies=sim_dies),
        placement=Strategy(placement),
        overcommit=Overcommit(cpu=cpu_overcommit, ram=ram_overcommit),
    )
    try:
        if os.path.exists(data / SERVE_LOCK):
            raise Conflict(f"{data} is the folder of a cluster's machine (`muster serve`); choose another --data.")
        opened_host = _real_host_opener() if libvirt else None
        with held(data), bound(bind, port, "Choose another --port.") as listener, contextlib.ExitStack() as stack:
            if opened_host is not None:
                most_guests = int((os.cpu_count() or 1) * cpu_overcommit)
                choices = RealHostChoices(most_guests=most_guests, boots=boots, ksm=KsmMode(ksm), lease_time_s=lease_s)
                host = stack.enter_context(opened_host(data, choices))
                image = image_for_cloud(is_new=not (data / DATABASE).exists())
                settings = replace(settings, real_host=host, guest_image=image)
            elif (data / "host").exists():
                click.echo(
                    "Without --libvirt this cloud's real guests are left as they are, out of its reach.", err=True
                )
            uvloop.run(until_interrupted(_serve(settings, listener)))
    except MusterError as error:
        raise click.ClickException(error.message) from error


def _real_host_opener() -> Callable[[Path, RealHostChoices], AbstractContextManager[RealHost]]:
    """As in `requirements`, which is imported only where it is wanted: it weighs as much as all the rest."""
    opener: Callable[[], Callable[[Path, RealHostChoices], AbstractContextManager[RealHost]]]
    opener = importlib.import_module("muster.cli.requirements").real_host_opener
    return opener()


async def _serve(settings: CloudSettings, listener: socket.socket) -> None:
    base_url = url_of(listener)
    password = admin_password(settings.folder)
    async with running(settings, password) as cloud:
        path = write_clouds_yaml(settings.folder, base_url, password)
        spare_the_garbage_collector()
        async with listening(cloud.application, listener, _DRAIN_S) as serving:
            click.echo(f"Muster is ready at {base_url}")
            click.echo(f"  export OS_CLIENT_CONFIG_FILE={path} OS_CLOUD=muster")
            await asyncio.wait([serving])

"""One API worker: a process that `muster serve` starts, watches and replaces.

It has its listening socket from its parent, reads the settings file itself, says `ready` on its standard output, gives
a sign of life there every two seconds, and ends when it is told to (SIGTERM) or when its standard input ends, that is,
when its parent is no more.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import click
import uvloop

from muster.base.descriptors import allow_many
from muster.base.errors import Conflict, Invalid, MusterError
from muster.base.log import configure
from muster.cli import heap
from muster.cli.control_plane import PlaneSettings, control_plane
from muster.cli.engines import EngineSettings, opened_engines
from muster.cli.first_data import FirstData
from muster.cli.foreground import spare_the_garbage_collector, until_interrupted
from muster.cli.images import OwnImages, folder_mark
from muster.cli.intake import share
from muster.cli.listening import listening
from muster.cli.metrics import metrics_served
from muster.cli.secrets import cluster_password
from muster.cli.settings import Settings, read_settings, require_serve
from muster.cli.supervisor import ALIVE, BEAT_S, MISCONFIGURED, READY
from muster.domain.catalog import own_entries
from muster.domain.placement import Overcommit
from muster.services.cluster_secret import ClusterSecret
from muster.services.image_place import Place


@click.command()
@click.option("--settings", "path", type=click.Path(path_type=Path), required=True)
@click.option("--index", type=int, required=True, help="Which of this machine's workers it is, from 0.")
@click.option("--listener", type=int, required=True, help="The number of the inherited socket.")
@click.option("--workers", type=int, help="How many there are; as the settings say, if it is not told.")
@click.option("--log-level", default="WARNING")
def worker(path: Path, index: int, listener: int, workers: int | None, log_level: str) -> None:
    """Serve all APIs on an inherited socket. For `muster serve`, not for people."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the event loop hears of it
    heap.share()
    allow_many()
    configure(level=log_level)
    try:
        settings = read_settings(path)
        require_serve(settings, path)
        with socket.socket(fileno=listener) as inherited:
            at_once = share(workers or settings.serve.workers)
            uvloop.run(until_interrupted(_serve(settings, index, inherited, at_once)))
    except KeyboardInterrupt:
        return
    except MusterError as error:
        click.echo(f"Worker {index}: {error.message}", err=True)
        sys.exit(MISCONFIGURED if isinstance(error, Invalid | Conflict) else 1)


async def _serve(settings: Settings, index: int, listener: socket.socket, at_once: int) -> None:
    beats = asyncio.create_task(_give_signs_of_life(), name="signs of life")
    try:
        await _serve_until_told(settings, index, listener, at_once)
    finally:
        beats.cancel()


async def _give_signs_of_life() -> None:
    """Tell the supervisor that the event loop goes round. If it does not read, no matter: it must not hold us up."""
    os.set_blocking(1, False)
    while True:
        with contextlib.suppress(BlockingIOError):
            os.write(1, f"{ALIVE}\n".encode())
        await asyncio.sleep(BEAT_S)


async def _serve_until_told(settings: Settings, index: int, listener: socket.socket, at_once: int) -> None:
    serve = settings.serve
    _end_with_parent()
    plane = PlaneSettings(
        folder=settings.folder,
        secret=ClusterSecret(settings.secret, settings.previous_secrets),
        overcommit=Overcommit(cpu=serve.cpu_overcommit, ram=serve.ram_overcommit),
        placement=serve.placement,
        default_zone=serve.default_zone or None,
        address_rest_s=serve.address_rest_s,
        keep_deleted_s=serve.keep_deleted_s,
        keep_actions_s=serve.keep_actions_s,
        own_images=own_images(settings),
        with_metrics=False,
        name=f"{socket.gethostname()}-{index}",
    )
    data = FirstData(
        admin_password=cluster_password(settings),
        scratch=settings.folder,
        catalog=own_entries(serve.public_url),
        guest_image=Path(serve.guest_image) if serve.guest_image else None,
    )
    async with (
        opened_engines(engine_settings(settings, index)) as engines,
        control_plane(plane, engines, data) as cloud,
    ):
        spare_the_garbage_collector()
        metrics_port = serve.metrics_port + index if serve.metrics_port else 0
        async with (
            metrics_served(serve.metrics_bind, metrics_port),
            listening(cloud.application, listener, serve.drain_s, at_once=at_once) as serving,
        ):
            sys.stdout.write(READY + "\n")
            sys.stdout.flush()
            await asyncio.wait([serving])


def own_images(settings: Settings) -> OwnImages | None:
    """What this machine is told of images, if it has a folder of its own for them."""
    serve = settings.serve
    if not serve.image_url:
        return None
    place = Place(
        url=serve.image_url.rstrip("/"),
        machine=socket.gethostname(),
        folder=str(settings.folder),
        mark=folder_mark(settings.folder),
    )
    return OwnImages(place=place, copies=serve.image_copies)


def engine_settings(settings: Settings, index: int) -> EngineSettings:
    """The cluster's engines, for this process."""
    return EngineSettings(
        database_url=settings.engines.database_url,
        locks_url=settings.engines.locks_url,
        token_dir=settings.folder / "locks" / "tokens",
        bus_url=settings.engines.bus_url,
        member=f"{socket.gethostname()}-serve-{index}-{os.getpid()}",
    )


def _end_with_parent() -> None:
    """Drain, as by SIGTERM, when standard input ends."""
    loop = asyncio.get_running_loop()

    def heard() -> None:
        with contextlib.suppress(OSError):
            if os.read(0, 1):
                return
        loop.remove_reader(0)
        os.kill(os.getpid(), signal.SIGTERM)

    loop.add_reader(0, heard)


if __name__ == "__main__":
    worker()

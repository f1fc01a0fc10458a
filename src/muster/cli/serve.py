"""`muster serve`: this machine's workers of a cluster's control plane."""

import asyncio
import signal
import socket
import sys
from pathlib import Path

import click

from muster.base.errors import MusterError
from muster.base.log import LEVELS, configure
from muster.cli.data_folder import SERVE_LOCK, held
from muster.cli.listening import BACKLOG, bound, url_of
from muster.cli.secrets import cluster_password, write_clouds_yaml
from muster.cli.settings import Settings, read_settings, require_serve
from muster.cli.supervisor import Supervisor


@click.command()
@click.option("--settings", "path", type=click.Path(path_type=Path), required=True, help="The settings file (TOML).")
@click.option("--workers", type=click.IntRange(1, 256), help="Worker processes; in place of serve.workers.")
@click.option("--port", type=click.IntRange(0, 65_535), help="In place of serve.port; 0 for any free one.")
@click.option("--log-level", type=click.Choice(LEVELS), default="WARNING", show_default=True, help="Least written.")
def serve(path: Path, workers: int | None, port: int | None, log_level: str) -> None:
    """Run this machine's workers of a cluster's control plane, in the foreground, until it is interrupted.

    The cluster's engines are PostgreSQL, etcd and RabbitMQ; any number of machines run this over the same ones. All
    workers of a machine answer on one port. FOLDER/clouds.yaml, in the settings' folder, tells clients how to reach
    the cluster. Hosts are run by `muster host`.

    \b
    SIGTERM, SIGINT  answer what is being asked (up to serve.drain_s), then end
    SIGHUP           replace the workers one after the other, with new settings, refusing nobody
    """
    configure(level=log_level)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the event loop hears of it
    path = path.absolute()
    try:
        settings = read_settings(path)
        require_serve(settings, path)
        with (
            held(settings.folder, lock=SERVE_LOCK),
            bound(
                settings.serve.bind,
                settings.serve.port if port is None else port,
                "Choose another serve.port, or --port.",
            ) as listener,
        ):
            asyncio.run(_supervise(settings, path, listener, workers or settings.serve.workers, log_level))
    except MusterError as error:
        raise click.ClickException(error.message) from error


async def _supervise(settings: Settings, path: Path, listener: socket.socket, count: int, log_level: str) -> None:
    listener.listen(BACKLOG)
    base_url = settings.serve.public_url.rstrip("/") or url_of(listener)
    clouds = write_clouds_yaml(settings.folder, base_url, cluster_password(settings))

    def command_of(index: int) -> list[str]:
        return [
            *(sys.executable, "-m", "muster.cli.worker", "--settings", str(path), "--index", str(index)),
            *("--listener", str(listener.fileno()), "--workers", str(count), "--log-level", log_level),
        ]

    def announce() -> None:
        click.echo(f"Muster is ready at {url_of(listener)}")
        click.echo(f"  export OS_CLIENT_CONFIG_FILE={clouds} OS_CLOUD=muster")

    supervisor = Supervisor(command_of, count, listener, drain_s=settings.serve.drain_s, hang_s=settings.serve.hang_s)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.end)
    loop.add_signal_handler(signal.SIGHUP, supervisor.replace)
    await supervisor.run(announce)

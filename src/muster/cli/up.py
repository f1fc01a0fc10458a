"""`muster up`: a whole cloud on this machine, in the foreground."""

import asyncio
import socket
from pathlib import Path

import click
import uvicorn
import uvloop

from muster.base.errors import Conflict
from muster.base.log import configure
from muster.cli.cloud import CloudSettings, running
from muster.cli.data_folder import held
from muster.cli.secrets import admin_password, write_clouds_yaml
from muster.host.hypervisor.sim import SimSettings


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("var/cloud"), show_default=True, help="Folder.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8774, show_default=True, help="0 for any free one.")
@click.option("--bind", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--sim-hosts", type=click.IntRange(0, 20_000), default=10, show_default=True, help="Simulated hosts.")
@click.option("--sim-boot-s", type=click.FloatRange(0, 3600), default=0.0, show_default=True, help="Their boot time.")
@click.option("--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]), default="WARNING")
def up(data: Path, port: int, bind: str, sim_hosts: int, sim_boot_s: float, log_level: str) -> None:
    """Run a whole cloud on this machine, in the foreground, until it is interrupted.

    Its state is kept in the folder DATA; DATA/clouds.yaml tells clients how to reach it.
    """
    configure(level=log_level)
    data = data.absolute()
    settings = CloudSettings(folder=data, sim_hosts=sim_hosts, sim=SimSettings(boot_s=sim_boot_s))
    try:
        with held(data):
            uvloop.run(_serve(settings, bind, port))
    except Conflict as error:
        raise click.ClickException(error.message) from error


async def _serve(settings: CloudSettings, bind: str, port: int) -> None:
    listener = socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((bind, port))
    except OSError as error:
        raise click.ClickException(
            f"Cannot listen on {bind} port {port}: {error.strerror}. Choose another --port."
        ) from error
    listener.listen(4096)
    listener.setblocking(False)
    base_url = f"http://{bind}:{listener.getsockname()[1]}"
    password = admin_password(settings.folder)
    async with running(settings, password) as cloud:
        path = write_clouds_yaml(settings.folder, base_url, password)
        config = uvicorn.Config(
            cloud.application, lifespan="off", access_log=False, log_level="error", backlog=4096, timeout_keep_alive=30
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # uvicorn tells of its start in no other way
        click.echo(f"Muster is ready at {base_url}")
        click.echo(f"  export OS_CLIENT_CONFIG_FILE={path} OS_CLOUD=muster")
        await serving

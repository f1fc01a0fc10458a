"""`muster restored`: to be said once after a database was restored from a backup."""

import asyncio
from pathlib import Path

import click

from muster.base.clock import system_clock
from muster.base.errors import MusterError
from muster.cli.settings import read_settings, require_serve
from muster.services.restored import begin_anew
from muster.store.engine import Database
from muster.store.schema import bring_to_head


@click.command()
@click.option("--settings", "path", type=click.Path(path_type=Path), required=True, help="The settings file (TOML).")
def restored(path: Path) -> None:
    """Say that the cluster's database was restored, before `muster serve` is started again.

    All hosts then forget what they were told before, and are sent what they should have by the restored database.
    """
    path = path.absolute()
    try:
        settings = read_settings(path)
        require_serve(settings, path)
        count = asyncio.run(_begin_anew(settings.engines.database_url))
    except MusterError as error:
        raise click.ClickException(error.message) from error
    click.echo(f"Hosts that begin anew: {count}")


async def _begin_anew(database_url: str) -> int:
    database = Database(database_url)
    try:
        await bring_to_head(database)
        return await begin_anew(database, system_clock)
    finally:
        await database.close()

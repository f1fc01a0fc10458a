"""`muster kept`: the guests that a host has put aside, since the database does not know their servers."""

import os
from pathlib import Path

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from muster.base.errors import MusterError
from muster.base.tables import figures_table
from muster.base.units import MIB, iso
from muster.host.hypervisor.libvirt.kept import Shelf
from muster.host.machine import Layout


class KeptGuest(Struct, frozen=True, kw_only=True):
    """A guest that is kept: `since` in Unix seconds, what its disk takes in MiB; the rest where it is known."""

    server_id: str
    since: float
    mib: int
    disk: str
    name: str
    project_id: str
    addresses: tuple[str, ...]


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/muster-host"),
    show_default=True,
    help="The host's folder (`folder` in its settings).",
)
@click.option("--remove", "doomed", multiple=True, metavar="ID", help="Remove this server's disk now; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="For scripts: a list of objects, the longest kept first.")
def kept(*, data: Path, doomed: tuple[str, ...], as_json: bool) -> None:
    """Show the guests that this host keeps though its cluster's database does not know their servers.

    That is so after a database was set back. Each is shut down and off the network, its disk is in the folder that is
    shown; after host.keep_unknown_s it is removed. With --remove nothing is shown.
    """
    layout = Layout(data.absolute())
    if not os.path.isdir(layout.root):  # 'no guest is kept' would be false comfort
        raise click.ClickException(f"No host has its folder at {data}; name that of its settings (`folder`) by --data.")
    shelf = Shelf(layout.instances)
    try:
        missing = [server_id for server_id in doomed if not shelf.remove(server_id)]
        found = [] if doomed else _all(shelf)
    except (MusterError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if missing:
        raise click.ClickException(f"Not kept here: {', '.join(missing)}")
    if doomed:
        return
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)))
    elif found:
        Console().print(_table(found))
        click.echo(f"Their disks: {shelf.path}/SERVER/disk.qcow2")
    else:
        click.echo("No guest is kept here.")


def _all(shelf: Shelf) -> list[KeptGuest]:
    found = [
        KeptGuest(
            server_id=server_id,
            since=about.kept_at,
            mib=_taken(shelf.path / server_id) // MIB,
            disk=str(shelf.path / server_id / "disk.qcow2"),
            name=about.name,
            project_id=about.project_id,
            addresses=about.addresses,
        )
        for server_id, about in shelf.all().items()
    ]
    return sorted(found, key=lambda guest: guest.since)


def _table(found: list[KeptGuest]) -> Table:
    table = figures_table("server", "MiB")
    table.columns[0].no_wrap = True  # to be copied whole
    table.add_column("since (UTC)", no_wrap=True)
    for name in ("name", "addresses"):
        table.add_column(name, overflow="fold")
    for guest in found:
        cells = (iso(guest.since)[:16].replace("T", " "), guest.name, "\n".join(guest.addresses))
        table.add_row(guest.server_id, str(guest.mib), *cells)
    return table


def _taken(folder: Path) -> int:
    """Bytes on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir() if path.is_file())

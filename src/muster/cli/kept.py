"""`muster kept`: the guests that a host has put aside, since the database does not know their servers."""

from pathlib import Path

import click

from muster.base.errors import MusterError
from muster.base.units import MIB, iso
from muster.host.hypervisor.libvirt.kept import Shelf
from muster.host.machine import Layout


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/muster"),
    show_default=True,
    help="The host's folder (`folder` in its settings).",
)
@click.option("--remove", "doomed", multiple=True, metavar="ID", help="Remove this server's disk now; may be repeated.")
def kept(*, data: Path, doomed: tuple[str, ...]) -> None:
    """Show the guests that this host keeps though its cluster's database does not know their servers.

    That is so after a database was set back. Each is shut down and off the network, its disk is in the folder that is
    shown; after host.keep_unknown_s it is removed.
    """
    shelf = Shelf(Layout(data.absolute()).instances)
    try:
        missing = [server_id for server_id in doomed if not shelf.remove(server_id)]
        lines = [] if doomed else _lines(shelf)
    except (MusterError, OSError) as error:
        raise click.ClickException(str(error)) from error
    if missing:
        raise click.ClickException(f"Not kept here: {', '.join(missing)}")
    for line in lines:
        click.echo(line)


def _lines(shelf: Shelf) -> list[str]:
    found = sorted(shelf.all().items(), key=lambda item: item[1].kept_at)
    if not found:
        return ["No guest is kept here."]
    rows = [("SERVER", "SINCE", "MIB", "NAME", "PROJECT", "ADDRESSES")]
    for server_id, about in found:
        mib = str(_taken(shelf.path / server_id) // MIB)
        rows.append((server_id, iso(about.kept_at), mib, about.name, about.project_id, " ".join(about.addresses)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, f"Their disks: {shelf.path}/SERVER/disk.qcow2"]


def _taken(folder: Path) -> int:
    """Bytes on the disk."""
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir() if path.is_file())

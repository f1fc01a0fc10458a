"""`muster down`: what of a cloud's host runs or stands on this machine is removed, after a crash too."""

import os
from pathlib import Path

import click

from muster.base.errors import MusterError
from muster.base.log import configure
from muster.cli.data_folder import held, stop_owner
from muster.host.machine import Layout
from muster.host.takedown import Removed, take_down_host

_STOP_TIMEOUT_S = 60.0


@click.command()
@click.option("--data", type=click.Path(path_type=Path), default=Path("var/cloud"), show_default=True, help="Folder.")
def down(data: Path) -> None:
    """Stop the cloud in the folder DATA and remove what runs or stands on this machine for it.

    Guests end as if their power failed. Their disks and the cloud's records stay in DATA: the next `muster up`
    starts them again. Remove the folder to forget the cloud.
    """
    configure(level="WARNING")
    data = data.absolute()
    if not os.path.isdir(data):
        raise click.ClickException(f"There is no folder {data}.")
    try:
        if stop_owner(data, _STOP_TIMEOUT_S):
            click.echo("Stopped: muster")
        with held(data):
            removed = take_down_host(Layout(data))
    except MusterError as error:
        raise click.ClickException(error.message) from error
    words = described(removed)
    click.echo(f"Removed: {', '.join(words)}" if words else "Nothing of its host runs or stands on this machine.")


def described(removed: Removed) -> list[str]:
    """What was removed, in words."""
    network = removed.network
    counted = {
        "guest": removed.guests,
        "DHCP server": network.dhcp_servers,
        "tap": network.taps,
        "bridge": network.bridges,
    }
    words = [f"{count} {noun}{'' if count == 1 else 's'}" for noun, count in counted.items() if count]
    words += ["what was set of KSM"] * removed.ksm
    return words + ["libvirtd"] * removed.libvirtd + ["nftables rules"] * network.rules

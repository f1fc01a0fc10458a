"""`muster guest`: the test guest's image, for those who have no other at hand."""

import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console

from muster.base.errors import MusterError
from muster.cli.built_guest import default_cache_dir, default_output
from muster.guest.build import ImageInfo, build_image


@click.group()
def guest() -> None:
    """The small test guest, built from Debian packages."""


@guest.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=default_output,
    help="The qcow2 file to write; by default the one that `muster up --libvirt` takes.",
)
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path), help="Where downloaded packages are kept.")
@click.option("--json", "as_json", is_flag=True, help="Print the image's description as JSON.")
def build(output: Path, cache: Path | None, as_json: bool) -> None:
    """Build the image, unless the one at OUTPUT is up to date.

    Needs no root, and no network once the packages are in the cache.
    """
    console = Console(stderr=True)
    try:
        with console.status("starting") as status:
            info = build_image(output, cache or default_cache_dir(), status.update)
    except MusterError as error:
        raise click.ClickException(error.message) from error
    if as_json:
        sys.stdout.write(msgspec.json.encode(info).decode() + "\n")
    else:
        _show(console, output, info)


def _show(console: Console, output: Path, info: ImageInfo) -> None:
    console.print(
        f"{output}: {info.size_bytes / 1e6:.1f} MB, kernel {info.kernel}, needs {info.min_ram_mib} MiB of RAM"
    )
    console.print(f"described in {output}.json; sha512 {info.sha512[:16]}...")

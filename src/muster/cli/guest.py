"""`muster guest`: the test guest's image, for those who have no other at hand."""

import os
import sys
from pathlib import Path

import click
import msgspec
from rich.console import Console

from muster.base.errors import MusterError
from muster.guest.build import ImageInfo, build_image, built_image


def cache_dir() -> Path:
    """What is kept for all clouds of a user: below the user's cache directory (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "muster"


def default_cache_dir() -> Path:
    """Where downloaded packages are kept, and the image itself."""
    return cache_dir() / "guest"


def default_output() -> Path:
    """The image that `muster up --libvirt` registers."""
    return default_cache_dir() / "guest.qcow2"


def image_for_cloud(*, is_new: bool) -> Path | None:
    """The built image: up to date for a new cloud, any that is intact for an older one.

    None when it cannot be built, for a cloud that ran before: it goes on with the image that it has. Says what it
    does. Raises what `build_image` does.
    """
    output = default_output()
    if not is_new and built_image(output) is not None:
        return output
    try:
        build_image(output, default_cache_dir(), lambda step: click.echo(f"Test guest's image: {step}", err=True))
    except MusterError as error:
        if is_new:
            raise
        click.echo(f"The test guest's image cannot be built: {error.message}", err=True)
        return None
    return output


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

"""Where the built test guest is, and how a cloud comes by it."""

import os
from pathlib import Path

import click

from muster.base.errors import MusterError
from muster.guest.build import build_image, built_image


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

"""A host in the same process as the API takes images from the image folder, without HTTP.

It has the shape of the host's `ImageSource`. What was fetched is a file of its own or another name of the same
unchanging file; either way deleting the image does not touch it.
"""

import asyncio
import fcntl
import os
import shutil
from pathlib import Path

from muster.base.errors import NotFound, Transient
from muster.domain.specs import ImageSpec
from muster.services.image_files import ImageFiles

_FICLONE = 0x40049409  # linux/fs.h: share all extents of another file


class LocalImageSource:
    """Images of one image folder."""

    def __init__(self, files: ImageFiles) -> None:
        self._files = files

    async def fetch(self, image: ImageSpec, target: Path) -> None:
        """Make the image's file at `target`: by shared extents, another name, or a copy, whichever works first.

        Raises NotFound when there is no such file, Transient. Works in a thread.
        """
        source = self._files.path(image.id)
        try:
            await asyncio.to_thread(_make, source, target)
        except OSError as error:
            if not await asyncio.to_thread(source.exists):
                raise NotFound(f"image {image.id} has no file") from error
            raise Transient(f"image {image.id} cannot be read: {error}", retry_after_s=5.0) from error


def _make(source: Path, target: Path) -> None:
    if not _clone(source, target) and not _link(source, target):
        shutil.copyfile(source, target)


def _clone(source: Path, target: Path) -> bool:
    with source.open("rb") as reader, target.open("wb") as writer:
        try:
            fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
        except OSError:
            return False
    return True


def _link(source: Path, target: Path) -> bool:
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        return False
    return True

"""The parts of a control plane that have to do with images: one folder for all machines, or each machine a holder."""

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Any

from msgspec import Struct

from muster.api.image.application import assemble
from muster.api.image.routes import Services
from muster.base.clock import Clock
from muster.base.tasks import repeating
from muster.services.image_copies import ImageCopies
from muster.services.image_download import HolderDownloads
from muster.services.image_files import ImageFiles
from muster.services.image_holders import ImageHolder
from muster.services.image_place import Place
from muster.services.image_tickets import ImageTickets
from muster.services.readiness import Check
from muster.store.engine import Database

# How often uploads that a dead process left are looked for, and images that are on too few machines.
_LOOK_S = 60.0
# How often a machine asks its own URL who is there.
_WATCH_S = 20.0
# Drawn by each kernel when it starts.
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

Work = Callable[[], Coroutine[Any, Any, None]]


class OwnImages(Struct, frozen=True, kw_only=True):
    """What a machine is told that has an image folder of its own. The cluster has each image on `copies` machines."""

    place: Place
    copies: int


class ImageParts(Struct, frozen=True, kw_only=True):
    """The services, and what is to be done beside them: by one process of the cluster (`once`), by each (`each`).

    `checks`: what a process that is ready has to pass.
    """

    services: Services
    holder: ImageHolder | None
    once: Mapping[str, Work]
    each: Mapping[str, Work]
    checks: Mapping[str, Check]

    async def close(self) -> None:
        """Give up what is under way."""
        if self.holder is not None:
            await self.holder.close()


def image_parts(
    database: Database, clock: Clock, files: ImageFiles, tickets: ImageTickets, own: OwnImages | None
) -> ImageParts:
    """Of this process. Without `own` all machines have the same folder."""
    if own is None:
        services = assemble(database, clock, files)
        sweep: Work = partial(repeating, services.uploads.sweep, _LOOK_S)
        return ImageParts(services=services, holder=None, once={"uploads": sweep}, each={}, checks={})
    downloads = HolderDownloads(tickets, own.place.url)
    holder = ImageHolder(own.place, database, files, downloads, SystemRandom())
    services = assemble(database, clock, files, holder=holder)
    copies = ImageCopies(database, files, holder, own.copies, SystemRandom())
    each: dict[str, Work] = {
        "uploads": partial(repeating, services.uploads.sweep, _LOOK_S),
        "copies of images": partial(repeating, copies.look, _LOOK_S),
        "where image_url leads": partial(repeating, holder.watch.look, _WATCH_S),
    }
    return ImageParts(services=services, holder=holder, once={}, each=each, checks={"images": holder.watch.check})


def folder_mark(folder: Path, boot: Path = _BOOT_ID) -> str:
    """What tells a machine by its folder from any other that runs: a container with the same names on the same kernel
    has another folder, and a copy of the machine another kernel. The same for all workers, until the kernel ends.
    """
    status = folder.stat()
    return f"{boot.read_text(encoding='ascii').strip() if boot.exists() else ''}/{status.st_dev:x}/{status.st_ino:x}"


def image_files(folder: Path) -> ImageFiles:
    """The image folder of a cloud's folder; may be a file system that machines share."""
    return ImageFiles(folder / "images")

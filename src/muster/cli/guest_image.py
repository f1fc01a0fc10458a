"""The image `guest` of a cloud: the built test guest where guests are real, an empty disk where all are simulated.

Invariants: there is one visible image `guest`; a built one takes the place of an empty one and is never replaced by it.
"""

import asyncio
from pathlib import Path

from muster.api.image.routes import Services as ImageServices
from muster.base.units import MIB
from muster.domain.context import Context
from muster.domain.image_listing import ImageFilter, ImagePage, Sort
from muster.guest.build import MIN_RAM_MIB
from muster.host.qcow2 import write_empty
from muster.services.image_uploads import REGISTERED_AS

NAME = "guest"
_OPERATOR = Context(user_id="", roles=frozenset({"admin"}))
_EMPTY_BYTES = 128 * MIB


async def ensure_guest(image: ImageServices, built: Path | None, scratch: Path) -> None:
    """The cloud has an image `guest`: the built one, or, without, the one that it has, or else an empty disk.

    `scratch` is where the empty disk's file is made; one that a killed process left there is replaced.
    """
    if built is not None:
        properties = {"os_distro": "debian", "architecture": "x86_64"}
        await image.uploads.register_file(built, name=NAME, min_ram=MIN_RAM_MIB, properties=properties)
    elif not await _is_registered(image):
        await _register_empty(image, scratch)


async def _is_registered(image: ImageServices) -> bool:
    wanted = ImageFilter(properties={REGISTERED_AS: NAME})
    # Anybody may give an image of theirs such a property; what came with the cloud is owned by nobody.
    return any(found.owner is None for found in await image.images.list(_OPERATOR, wanted, ImagePage(sorts=(_NEWEST,))))


_NEWEST = Sort("created_at")


async def _register_empty(image: ImageServices, scratch: Path) -> None:
    said = "An empty disk for simulated hosts; with `muster up --libvirt` the real test guest takes its place."
    path = scratch / "empty-guest.qcow2"
    path.unlink(missing_ok=True)
    try:
        await asyncio.to_thread(lambda: write_empty(path, virtual_size=_EMPTY_BYTES))
        await image.uploads.register_file(path, name=NAME, properties={"description": said})
    finally:
        path.unlink(missing_ok=True)

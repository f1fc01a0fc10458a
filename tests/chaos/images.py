"""Images of a lab whose control machines have folders of their own: what the database says, and what is there."""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

from muster.lab.cluster import Lab
from muster.lab.parts.control import api_url
from muster.lab.plan import Kind, Part

_HELD = (
    "SELECT h.image_id, h.holder, i.os_hash_value FROM image_holders h JOIN images i ON i.id = h.image_id "
    "ORDER BY h.image_id, h.holder"
)
_NOWHERE = (
    "SELECT id FROM images WHERE status = 'active' AND id NOT IN (SELECT image_id FROM image_holders) ORDER BY id"
)


def file_of(lab: Lab, part: Part, image_id: str) -> Path:
    """Where a control machine has, or would have, an image's file."""
    return lab.site.part_folder(part) / "images" / image_id


def holders(copy: Path, image_id: str) -> set[str]:
    """The URLs of who has an image, as a copy of the database says."""
    with closing(sqlite3.connect(copy)) as file:
        found = file.execute("SELECT holder FROM image_holders WHERE image_id = ?", (image_id,))
        return {holder for (holder,) in found}


def untrue(lab: Lab, copy: Path) -> list[str]:
    """What a copy of the database says of images that is not so on the machines' disks; nothing if all is well."""
    if not lab.site.plan.settings.own_images:
        return []
    machines = {api_url(part): part for part in lab.site.plan.of(Kind.CONTROL)}
    with closing(sqlite3.connect(copy)) as file:
        held, nowhere = file.execute(_HELD).fetchall(), file.execute(_NOWHERE).fetchall()
    found = [f"image {image_id} is on no machine" for (image_id,) in nowhere]
    for image_id, holder, sha512 in held:
        part = machines.get(holder)
        if part is None:
            found.append(f"image {image_id} is at {holder}, where no machine is")
        elif _sha512(file_of(lab, part, image_id)) != sha512:
            found.append(f"{part.name} has not the file of image {image_id} that it is said to have")
    return found


def _sha512(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha512").hexdigest()
    except FileNotFoundError:
        return ""

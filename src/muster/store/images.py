"""Images, their properties and tags, and the projects that they are shared with. The files are in the image folder.

Invariant: `status` leaves `saving` only by whoever holds the lock of the file that is being received
(`services.image_files`), so that a record which says `active` has its file.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, Table, delete, func, select, update
from sqlalchemy import insert as insert_into
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.images import Image, Status, Visibility
from muster.store.columns import flag, identity_column, integer, moment, reference, text
from muster.store.dialects import among, chunks
from muster.store.engine import metadata

images = Table(
    "images",
    metadata,
    identity_column(),
    Column("owner", String(255), nullable=True, index=True),
    text("name", nullable=True),
    text("status"),  # queued, saving, active, deactivated
    Column("receiver", String(512), nullable=True),  # while it is saving: the machine that its content comes to
    text("visibility"),  # public, private, shared, community
    text("disk_format", nullable=True),
    text("container_format", nullable=True),
    Column("size", BigInteger, nullable=True),
    Column("virtual_size", BigInteger, nullable=True),
    text("checksum", nullable=True),  # MD5, as the API shows it
    text("os_hash_algo", nullable=True),
    text("os_hash_value", nullable=True),  # SHA-512
    integer("min_disk", default=0),
    integer("min_ram", default=0),
    flag("protected"),
    flag("os_hidden"),
    moment("created_at"),
    moment("updated_at"),
    Index("ix_images_created_at_id", "created_at", "id"),
    Index("ix_images_name", "name"),
)

image_properties = Table(
    "image_properties",
    metadata,
    reference("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(255), primary_key=True),
    text("value"),
)

image_members = Table(
    "image_members",
    metadata,
    reference("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("member_id", String(255), primary_key=True, index=True),
    text("status", default="pending"),
    moment("created_at"),
    moment("updated_at"),
)

image_tags = Table(
    "image_tags",
    metadata,
    reference("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(255), primary_key=True, index=True),
)

_COLUMNS = [column.name for column in images.columns]


async def insert(connection: AsyncConnection, made: Sequence[Image]) -> None:
    """Write new images. Three statements. Raises Violation (pk_images) for an id that is taken."""
    await connection.execute(insert_into(images), [_values(image) for image in made])
    await _insert_details(connection, made)


async def save(connection: AsyncConnection, changed: Sequence[Image]) -> None:
    """Write images over that are there. Two statements for each image and up to four for all."""
    ids = [image.id for image in changed]
    for image in changed:
        await connection.execute(update(images).where(images.c.id == image.id).values(_values(image)))
    for part in chunks(ids):
        await connection.execute(delete(image_properties).where(among(image_properties.c.image_id, part)))
        await connection.execute(delete(image_tags).where(among(image_tags.c.image_id, part)))
    await _insert_details(connection, changed)


async def read(connection: AsyncConnection, ids: Collection[str], *, lock: bool = False) -> dict[str, Image]:
    """Images by id; those that do not exist are left out. `lock` for changing them. Three queries a chunk."""
    found: dict[str, Image] = {}
    for part in chunks(sorted(ids)):
        statement = select(images).where(among(images.c.id, part)).order_by(images.c.id)
        if lock:
            statement = statement.with_for_update()
        found.update((image.id, image) for image in await with_details(connection, await connection.execute(statement)))
    return found


async def read_statuses(connection: AsyncConnection, ids: Collection[str]) -> dict[str, Status]:
    """The status of images by id, of those that exist. One query a chunk."""
    found: dict[str, Status] = {}
    for part in chunks(sorted(ids)):
        statement = select(images.c.id, images.c.status).where(among(images.c.id, part))
        found.update((row.id, Status(row.status)) for row in await connection.execute(statement))
    return found


async def read_saving(connection: AsyncConnection, receiver: str | None) -> set[str]:
    """The ids of images that a machine receives or, where it is None, machines that share a folder. One query."""
    here = images.c.receiver == receiver if receiver else images.c.receiver.is_(None)
    return {
        row.id for row in await connection.execute(select(images.c.id).where(images.c.status == Status.SAVING, here))
    }


async def size_of(connection: AsyncConnection, owner: str | None) -> int:
    """What all images of a project take, in bytes. One query."""
    statement = select(func.coalesce(func.sum(images.c.size), 0)).where(images.c.owner == owner)
    return int((await connection.execute(statement)).scalar_one())


async def set_status(
    connection: AsyncConnection, ids: Collection[str], status: Status, now_s: float, *, receiver: str | None = None
) -> None:
    """Images are in another state now; `receiver` is for `saving`. One statement a chunk."""
    for part in chunks(sorted(ids)):
        values = {"status": str(status), "receiver": receiver, "updated_at": now_s}
        await connection.execute(update(images).where(among(images.c.id, part)).values(values))


async def hide_others(connection: AsyncConnection, name: str, value: str, now_s: float) -> None:
    """Images of no owner with this property and value are hidden from lists from now on. One statement."""
    having = (image_properties.c.name == name) & (image_properties.c.value == value)
    wanted = [images.c.id.in_(select(image_properties.c.image_id).where(having)), images.c.owner.is_(None)]
    shown = images.c.os_hidden.is_(False)
    await connection.execute(update(images).where(*wanted, shown).values({"os_hidden": True, "updated_at": now_s}))


async def remove(connection: AsyncConnection, ids: Collection[str]) -> None:
    """Delete images with their properties, tags and members. One statement a chunk."""
    for part in chunks(sorted(ids)):
        await connection.execute(delete(images).where(among(images.c.id, part)))


async def with_details(connection: AsyncConnection, rows: Iterable[Any]) -> list[Image]:
    """Images of rows of the table, in their order, with properties and tags. Two queries a chunk."""
    kept = list(rows)
    properties: defaultdict[str, dict[str, str]] = defaultdict(dict)
    tags: defaultdict[str, list[str]] = defaultdict(list)
    for part in chunks([row.id for row in kept]):
        statement = select(image_properties).where(among(image_properties.c.image_id, part))
        for image_id, name, value in await connection.execute(statement):
            properties[image_id][name] = value
        for image_id, tag in await connection.execute(select(image_tags).where(among(image_tags.c.image_id, part))):
            tags[image_id].append(tag)
    return [_image(row, dict(sorted(properties[row.id].items())), sorted(tags[row.id])) for row in kept]


async def _insert_details(connection: AsyncConnection, made: Sequence[Image]) -> None:
    properties = [
        {"image_id": image.id, "name": name, "value": value}
        for image in made
        for name, value in image.properties.items()
    ]
    tags = [{"image_id": image.id, "tag": tag} for image in made for tag in image.tags]
    if properties:
        await connection.execute(insert_into(image_properties), properties)
    if tags:
        await connection.execute(insert_into(image_tags), tags)


def _values(image: Image) -> dict[str, Any]:
    values = {name: getattr(image, name) for name in _COLUMNS}
    return values | {"status": str(image.status), "visibility": str(image.visibility)}


def _image(row: Any, properties: dict[str, str], tags: list[str]) -> Image:
    values = {name: getattr(row, name) for name in _COLUMNS}
    values |= {"status": Status(row.status), "visibility": Visibility(row.visibility)}
    return Image(**values, properties=properties, tags=tuple(tags))

"""Which machines have the file of which image, each by the URL at which other control machines reach it.

Invariant: a row says that the machine has the content that its image has now. It goes with its image, so that nothing
is said of another one that gets the same id.
"""

from collections.abc import Collection

from sqlalchemy import Column, ForeignKey, String, Table, delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.images import WITH_CONTENT
from muster.store.columns import reference
from muster.store.dialects import among, chunks, upsert
from muster.store.engine import metadata
from muster.store.images import images

image_holders = Table(
    "image_holders",
    metadata,
    reference("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("holder", String(255), primary_key=True, index=True),
)


async def insert(connection: AsyncConnection, image_id: str, holder: str) -> None:
    """A machine has the file of an image. One statement. Raises Violation when the image is gone."""
    values = {"image_id": image_id, "holder": holder}
    await connection.execute(upsert(connection, image_holders).values(values).on_conflict_do_nothing())


async def read(connection: AsyncConnection, image_ids: Collection[str]) -> dict[str, set[str]]:
    """The holders of images by id, none for one that is not known. One query a chunk."""
    found: dict[str, set[str]] = {image_id: set() for image_id in image_ids}
    for part in chunks(sorted(image_ids)):
        statement = select(image_holders).where(among(image_holders.c.image_id, part))
        for image_id, holder in await connection.execute(statement):
            found[image_id].add(holder)
    return found


async def read_held(connection: AsyncConnection, holder: str) -> set[str]:
    """The ids of all images of which a machine has the file. One query."""
    statement = select(image_holders.c.image_id).where(image_holders.c.holder == holder)
    return {row.image_id for row in await connection.execute(statement)}


async def read_rare(connection: AsyncConnection, holder: str, copies: int) -> dict[str, int]:
    """Images with content that fewer than `copies` machines have, and not this one: by id, how many. One query."""
    of_image = image_holders.c.image_id == images.c.id
    count = select(func.count()).select_from(image_holders).where(of_image).scalar_subquery()
    has = select(image_holders.c.image_id).where(of_image, image_holders.c.holder == holder).exists()
    statement = select(images.c.id, count).where(images.c.status.in_(WITH_CONTENT), count < copies, ~has)
    return {image_id: int(number) for image_id, number in await connection.execute(statement)}


async def remove(connection: AsyncConnection, image_ids: Collection[str], holder: str) -> None:
    """A machine has the files of these images no more. One statement a chunk."""
    for part in chunks(sorted(image_ids)):
        mine = among(image_holders.c.image_id, part), image_holders.c.holder == holder
        await connection.execute(delete(image_holders).where(*mine))

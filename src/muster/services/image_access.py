"""Who may see and change an image, as the Image service answers it.

What the caller may not know of is not found; what it sees but may not change is forbidden.
"""

from muster.base.errors import Forbidden, NotFound
from muster.domain.context import Context
from muster.domain.images import Image, is_owner, is_visible
from muster.store import image_members as member_store
from muster.store import images as store
from muster.store.engine import Connection


async def read_seen(connection: Connection, image_id: str, context: Context, *, lock: bool = False) -> Image:
    """The image, if the caller may know of it. Raises NotFound. Three queries, four for other projects' images."""
    image = (await store.read(connection, [image_id], lock=lock)).get(image_id)
    if image is None:
        raise missing(image_id)
    is_member = False
    if context.project_id is not None and not is_visible(image, context, is_member=False):
        is_member = bool(await member_store.read(connection, [(image_id, context.project_id)]))
    return seen(image, context, is_member=is_member)


async def read_owned(connection: Connection, image_id: str, context: Context, action: str) -> Image:
    """The image, locked, if the caller may change it. Raises NotFound, Forbidden."""
    image = await read_seen(connection, image_id, context, lock=True)
    if not is_owner(image, context):
        raise Forbidden(f"You are not authorized to complete {action} action.")
    return image


def seen(image: Image | None, context: Context, *, is_member: bool, image_id: str = "") -> Image:
    """The image. Raises NotFound if there is none or the caller may not know of it."""
    if image is None or not is_visible(image, context, is_member=is_member):
        raise missing(image.id if image else image_id)
    return image


def missing(image_id: str) -> NotFound:
    """There is no such image, as far as the caller may know."""
    return NotFound(f"No image found with ID {image_id}")

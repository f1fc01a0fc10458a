"""Use cases of images: their records. Content is received in `image_uploads`, members are in `image_members`.

Invariant: a record goes before its file does, so that what the record says is there.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext

from msgspec import Struct
from msgspec.structs import replace

from muster.base.clock import Clock
from muster.base.coalescer import Coalescer
from muster.base.errors import Conflict, Forbidden, MusterError, NotFound
from muster.base.ids import new_uuid
from muster.base.log import get_logger
from muster.domain.context import Context
from muster.domain.image_attributes import Draft, check_amounts, checked_tag
from muster.domain.image_listing import ImageFilter, ImagePage, Viewer
from muster.domain.image_patches import Change, patched
from muster.domain.images import (
    WITH_CONTENT,
    Image,
    ImageSettings,
    Status,
    check_deletable,
    check_publishable,
    deactivated,
    image_spec,
    is_visible,
    reactivated,
)
from muster.domain.specs import ImageSpec
from muster.services.image_access import missing, read_owned, seen
from muster.services.image_files import ImageFiles, Reader
from muster.services.image_holders import ImageHolder
from muster.services.redecide import redecided, redeciding_calls
from muster.store import image_listing as listing_store
from muster.store import image_members as member_store
from muster.store import images as store
from muster.store.engine import Database, Violation

log = get_logger(__name__)


class Download(Struct, frozen=True):
    """An image and its open file; no file while it has no content."""

    image: Image
    reader: Reader | None


class ImageService:
    """Images of all projects. `settings` are the limits; `holder`: the folder is its machine's own."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        files: ImageFiles,
        settings: ImageSettings | None = None,
        holder: ImageHolder | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._files = files
        self._settings = settings or ImageSettings()
        self._holder = holder
        self._looks: Coalescer[tuple[Context, str], Image] = Coalescer(redecided("images", self._look), name="images")

    @redeciding_calls("images")
    async def create(self, context: Context, draft: Draft) -> Image:
        """A record without content. Raises Forbidden (owner, visibility), Conflict (the id is taken), TooLarge."""
        now = self._clock()
        fields = {"owner": context.project_id, **draft.fields}
        image = Image(id=draft.id or new_uuid(), **fields, properties=draft.properties, created_at=now, updated_at=now)
        if image.owner is None and context.project_id is None:
            raise Forbidden("The token is not scoped to a project: the image needs an owner.")
        if image.owner != context.project_id and not context.is_admin:
            raise Forbidden(f"You are not permitted to create images owned by '{image.owner}'.")
        check_publishable(context, image.visibility)
        check_amounts(image, self._settings)
        try:
            async with self._database.write() as connection:
                await store.insert(connection, [image])
        except Violation as violation:
            raise Conflict(f"Image ID {image.id} already exists!") from violation
        return image

    async def show(self, context: Context, image_id: str) -> Image:
        """One image. Raises NotFound. All that are asked for at the same time share three queries, and one more if some
        may be seen by their members only."""
        return await self._looks.submit((context, image_id))

    async def list(self, context: Context, wanted: ImageFilter, page: ImagePage) -> Sequence[Image]:
        """A page of images that the caller sees. Raises Invalid for a bad marker."""
        if page.limit == 0:
            return []
        async with self._database.read() as connection:
            return await listing_store.read_page(connection, wanted, page, Viewer(context.project_id, context.is_admin))

    async def update(self, context: Context, image_id: str, changes: Sequence[Change]) -> Image:
        """Change attributes and properties, all or none. Raises NotFound, Forbidden, Conflict, TooLarge."""
        return await self._change(context, image_id, "modify_image", lambda image: patched(image, changes, context))

    async def add_tag(self, context: Context, image_id: str, tag: str) -> None:
        """An image has a tag. Raises NotFound, Forbidden, Invalid, TooLarge."""
        name = checked_tag(tag)
        await self._change(
            context, image_id, "modify_image", lambda image: replace(image, tags=tuple(sorted({*image.tags, name})))
        )

    async def remove_tag(self, context: Context, image_id: str, tag: str) -> None:
        """An image has a tag no more. Raises NotFound (the image or the tag), Forbidden."""

        def without(image: Image) -> Image:
            if tag not in image.tags:
                raise NotFound(f"The tag '{tag}' was not found on image {image_id}")
            return replace(image, tags=tuple(name for name in image.tags if name != tag))

        await self._change(context, image_id, "modify_image", without)

    async def deactivate(self, context: Context, image_id: str) -> None:
        """Lock an image's content away from all but admins. Raises NotFound, Forbidden."""
        await self._change(context, image_id, "deactivate", deactivated)

    async def reactivate(self, context: Context, image_id: str) -> None:
        """Let an image's content be used again. Raises NotFound, Forbidden."""
        await self._change(context, image_id, "reactivate", reactivated)

    async def delete(self, context: Context, image_id: str) -> None:
        """Remove an image and its file; servers made of it keep running. Raises NotFound, Forbidden (protected).

        A crash before the file is removed leaves it to the sweep, as does one on another machine.
        """
        with ExitStack() as stack:
            file = await self._remove(context, image_id, stack)
            try:
                if file is not None:
                    await self._files.remove(image_id, only=file)
            except MusterError as error:
                log.warning(
                    "a file is left to the sweep", action="image_file_left", image=image_id, error=error.message
                )

    @redeciding_calls("images")
    async def _remove(self, context: Context, image_id: str, stack: ExitStack) -> Reader | None:
        """Remove an image's record. Its file, if it is here, is open until the end of `stack`."""
        async with self._database.write() as connection:
            check_deletable(await read_owned(connection, image_id, context, "delete_image"))
            # While it is open, it is known from that of another image, which may get the id from now on.
            file = stack.enter_context(await self._opened(image_id))
            await store.remove(connection, [image_id])
        return file

    async def download(self, context: Context, image_id: str) -> Download:
        """An image's content, if it has any. Closing it is the caller's.

        Raises NotFound, Forbidden (deactivated), Transient (it is still to come from another machine).
        """
        image = await self.show(context, image_id)
        if image.status is Status.DEACTIVATED and not context.is_admin:
            raise Forbidden("The requested image has been deactivated. Image data download is forbidden.")
        if image.status not in WITH_CONTENT:
            return Download(image, None)
        return Download(image, await self.open_file(image_id))

    async def open_file(self, image_id: str, *, fetch: bool = True) -> Reader:
        """An image's file, whoever asks. Without `fetch`, only if it is here. Raises NotFound, Transient."""
        if self._holder is None:
            return await self._files.open(image_id)
        return await self._holder.open(image_id, fetch=fetch)

    async def spec(self, context: Context, image_id: str) -> ImageSpec:
        """What a host needs to make disks of the image. Raises NotFound, Invalid (image.not_active).

        Costs as `show`: requests at the same time share their queries.
        """
        return image_spec(await self.show(context, image_id))

    async def _opened(self, image_id: str) -> AbstractContextManager[Reader | None]:
        """An image's file here, if there is one that can be opened, to be closed at the end of the block."""
        try:
            return closing(await self._files.open(image_id))
        except MusterError:
            return nullcontext()

    @redeciding_calls("images")
    async def _change(self, context: Context, image_id: str, action: str, change: Callable[[Image], Image]) -> Image:
        async with self._database.write() as connection:
            old = await read_owned(connection, image_id, context, action)
            image = change(old)
            if image == old:
                return old
            check_amounts(image, self._settings)
            image = replace(image, updated_at=self._clock())
            await store.save(connection, [image])
        return image

    async def _look(self, asked: Sequence[tuple[Context, str]]) -> Sequence[Image | BaseException]:
        async with self._database.read() as connection:
            found = await store.read(connection, {image_id for _, image_id in asked})
            pairs = {
                (image_id, context.project_id)
                for context, image_id in asked
                if context.project_id is not None
                and image_id in found
                and not is_visible(found[image_id], context, is_member=False)
            }
            members = await member_store.read(connection, pairs)
        outcomes: list[Image | BaseException] = []
        for context, image_id in asked:
            is_member = (image_id, context.project_id or "") in members
            try:
                outcomes.append(seen(found.get(image_id), context, is_member=is_member, image_id=image_id))
            except NotFound:
                outcomes.append(missing(image_id))
        return outcomes

"""Content of images: received, checked, and put in place; and what crashes left of that, removed.

An upload: take the file's lock, mark the record `saving`, receive into a temporary file, check what arrived, sync; in
one transaction rename and mark the record `active`; let go of the lock. Invariants: whoever changes a record from
`saving` holds the lock of its file; a file gets its name while its record is held, and is its upload's. So an upload
that dies at any point leaves a record and files that `sweep` sets right, a sweep that runs beside a living upload, here
or in another process, leaves it alone, and an upload whose image was deleted harms no other that has got the same id.

Machines with folders of their own (`image_holders`) see no locks of each other: a record that is `saving` says whose
upload it is, and each machine's sweep looks at its own.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path

from msgspec.structs import replace

from muster.base.clock import Clock
from muster.base.errors import Conflict, Invalid, MusterError, NotFound, TooLarge, Transient
from muster.base.log import get_logger
from muster.base.tasks import to_its_end
from muster.domain.context import Context
from muster.domain.image_formats import HEAD_BYTES, check_head, inspect
from muster.domain.images import (
    WITH_CONTENT,
    Content,
    Image,
    ImageSettings,
    Status,
    Visibility,
    active,
    is_saving_still,
    saving,
)
from muster.services.image_access import read_owned, read_seen
from muster.services.image_files import CHUNK_BYTES, ImageFiles, parts_of
from muster.services.image_holders import ImageHolder
from muster.services.image_incoming import Incoming
from muster.services.redecide import redeciding_calls
from muster.store import images as store
from muster.store.engine import Connection, Database, Violation

log = get_logger(__name__)

# Files that come with the cloud have the same id wherever they are registered.
_NAMESPACE = uuid.UUID("5d0c8a3e-6d0b-5a4e-9a54-3f6a2f0e7a11")
#: The property that names a file that comes with the cloud.
REGISTERED_AS = "muster_registered"
_OPERATOR = Context(user_id="", roles=frozenset({"admin"}))


class ImageUploads:
    """Receives files into one image folder, in any number of processes. `holder`: the folder is its machine's own."""

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
        self._receiver = holder.receiver if holder else None

    async def upload(
        self, context: Context, image_id: str, parts: AsyncIterator[bytes], declared_size: int | None = None
    ) -> Image:
        """Receive an image's content in parts; the image is active when this returns.

        Raises NotFound, Forbidden, Conflict (it has content or receives some), Unsupported (content of another
        format), Invalid (unsafe content, another size than declared), TooLarge, NotFound with the code image.gone (it
        was deleted meanwhile), Transient. After an error the image waits for content again and nothing of it is kept.
        Hashing and writing happen in threads, CHUNK_BYTES at a time; two transactions, three fsyncs of files.
        """
        if self._holder is not None:
            self._holder.watch.require()
        await self._check_startable(context, image_id, declared_size)
        incoming = await self._files.receive(image_id)
        try:
            image = await self._start(context, image_id)
        except BaseException:
            await asyncio.shield(incoming.discard())
            raise
        try:
            return await self._receive(incoming, image, parts, declared_size)
        except BaseException as error:
            code = getattr(error, "code", type(error).__name__)
            log.info("an upload failed", action="image_upload_failed", image=image_id, error=code)
            await asyncio.shield(self._give_up(incoming, image))
            raise

    async def sweep(self) -> int:
        """Remove files that no record wants, let images whose upload died wait for content again; how many ids.

        To be called at the start of each process; harmless at any time. Of machines with folders of their own each
        has to do it, and one whose URL leads to another does nothing: both may have the name by which uploads are
        theirs. Two or three queries; if there is anything to do, it asks its URL, and one transaction.
        """
        whole, partial = await self._files.ids()
        async with self._database.read() as connection:
            statuses = await store.read_statuses(connection, whole | partial)
            dead = await store.read_saving(connection, self._receiver)
        suspects = partial | dead | {image_id for image_id in whole if statuses.get(image_id) not in WITH_CONTENT}
        if not suspects:
            return 0
        if self._holder is not None:
            await self._holder.watch.look()
            if self._holder.watch.is_wrong:
                return 0
        async with self._database.write() as connection:
            return len(await self._clear(connection, suspects))

    async def register_file(
        self,
        path: Path,
        *,
        name: str,
        disk_format: str = "qcow2",
        min_ram: int = 0,
        properties: Mapping[str, str] | None = None,
    ) -> Image:
        """A file that comes with the cloud is a public image, owned by nobody; its content decides its id.

        Idempotent, also between processes. An older version of the same name is hidden. Raises Invalid, Unsupported,
        NotFound (no such file). Reads the file once if it is registered, twice if not.
        """
        digest, size = await asyncio.to_thread(_sha512, path)
        image_id = str(uuid.uuid5(_NAMESPACE, f"{name}/{disk_format}/{digest}"))
        image = await self._registered(
            Image(
                id=image_id,
                owner=None,
                name=name,
                visibility=Visibility.PUBLIC,
                disk_format=disk_format,
                container_format="bare",
                min_ram=min_ram,
                properties={**(properties or {}), REGISTERED_AS: name},
            )
        )
        if image.status in WITH_CONTENT and self._holder is not None:
            await self._obtain(self._holder, image_id, path)
        if image.status is not Status.QUEUED:
            return image
        try:
            return await self.upload(_OPERATOR, image_id, parts_of(path), size)
        except Conflict:  # another process registers the same file
            async with self._database.read() as connection:
                return await read_seen(connection, image_id, _OPERATOR)

    async def _obtain(self, holder: ImageHolder, image_id: str, own: Path) -> None:
        """Not where others would not find it. That is told in the log, and mended without this process's start."""
        try:
            await holder.obtain(image_id, own=own)
        except Transient:
            if not holder.watch.is_wrong:
                raise

    async def _check_startable(self, context: Context, image_id: str, declared_size: int | None) -> None:
        async with self._database.read() as connection:
            image = await read_seen(connection, image_id, context)
            in_use = await store.size_of(connection, image.owner)
        self._check_size(declared_size or 0, in_use)

    def _check_size(self, size: int, in_use: int) -> None:
        if size > self._settings.size_limit:
            raise TooLarge(f"The incoming image is too large: at most {self._settings.size_limit} bytes are accepted")
        limit = self._settings.project_size_limit
        if limit is not None and in_use + size > limit:
            remaining = max(0, limit - in_use)
            raise TooLarge(f"Image exceeds the storage quota: {size} bytes do not fit, {remaining} bytes remain.")

    @redeciding_calls("images")
    async def _start(self, context: Context, image_id: str) -> Image:
        async with self._database.write() as connection:
            image = saving(await read_owned(connection, image_id, context, "upload_image"), self._receiver)
            await store.set_status(connection, [image_id], Status.SAVING, self._clock(), receiver=image.receiver)
        return image

    async def _receive(
        self, incoming: Incoming, image: Image, parts: AsyncIterator[bytes], declared_size: int | None
    ) -> Image:
        await self._write_all(incoming, image, parts)
        if declared_size is not None and declared_size != incoming.size:
            raise Invalid(f"The size declared is {declared_size} bytes, but {incoming.size} bytes were received")
        virtual_size = inspect(
            incoming.head,
            incoming.size,
            image.disk_format or "",
            virtual_size_limit=self._settings.virtual_size_limit,
        )
        received = await incoming.seal()
        content = Content(size=received.size, virtual_size=virtual_size, md5=received.md5, sha512=received.sha512)
        async with self._database.write() as connection:
            done = await self._finish(connection, incoming, image, content)
        await incoming.close()
        return done

    async def _write_all(self, incoming: Incoming, image: Image, parts: AsyncIterator[bytes]) -> None:
        is_checked = False
        async for chunk in _chunks(parts, self._settings.idle_timeout_s):
            self._check_size(incoming.size + len(chunk), 0)
            await incoming.write(chunk)
            if not is_checked and incoming.size >= HEAD_BYTES:
                # Told now rather than after the last of many gigabytes.
                check_head(incoming.head, image.disk_format or "")
                is_checked = True

    async def _finish(self, connection: Connection, incoming: Incoming, begun: Image, content: Content) -> Image:
        image = (await store.read(connection, [begun.id], lock=True)).get(begun.id)
        if image is None or not is_saving_still(image, begun):
            raise NotFound(f"Image {begun.id} was deleted during its upload", code="image.gone")
        self._check_size(content.size, await store.size_of(connection, image.owner))
        await to_its_end(incoming.publish())
        done = replace(active(image, content), updated_at=self._clock())
        await store.save(connection, [done])
        if self._holder is not None:
            await self._holder.received(connection, image.id)
        return done

    async def _give_up(self, incoming: Incoming, begun: Image) -> None:
        """The image waits for content again, unless it was committed after all. The file's lock is held until then."""
        try:
            async with self._database.write() as connection:
                image = (await store.read(connection, [begun.id], lock=True)).get(begun.id)
                if is_saving_still(image, begun):
                    await self._files.remove(begun.id)
                    await store.set_status(connection, [begun.id], Status.QUEUED, self._clock())
        except MusterError as error:
            log.warning("left to the sweep", action="image_upload_left", image=begun.id, error=error.code)
        finally:
            await incoming.discard()

    async def _clear(self, connection: Connection, suspects: Collection[str]) -> set[str]:
        """Set right what no living upload holds. Records are locked, so no upload begins meanwhile."""
        found = await store.read(connection, suspects, lock=True)
        cleared = set()
        for image_id in suspects:
            is_kept = image_id in found and found[image_id].status in WITH_CONTENT
            if await self._files.clear(image_id, whole=not is_kept):
                cleared.add(image_id)
        dead = {image_id for image_id in cleared if image_id in found and self._receives(found[image_id])}
        await store.set_status(connection, dead, Status.QUEUED, self._clock())
        log.info("image folder swept", action="image_sweep", cleared=len(cleared), requeued=len(dead))
        return cleared

    def _receives(self, image: Image) -> bool:
        """Whether its content is to arrive in this folder."""
        return image.status is Status.SAVING and image.receiver == self._receiver

    async def _registered(self, draft: Image) -> Image:
        now = self._clock()
        image, image_id = replace(draft, created_at=now, updated_at=now), draft.id
        has_file = await self._files.exists(image_id)
        try:
            async with self._database.write() as connection:
                found = (await store.read(connection, [image_id], lock=True)).get(image_id)
                if found is None:
                    await store.hide_others(connection, REGISTERED_AS, image.properties[REGISTERED_AS], now)
                    await store.insert(connection, [image])
                elif found.status is Status.ACTIVE and not has_file and self._holder is None:
                    await store.set_status(connection, [image_id], Status.QUEUED, now)
                else:
                    return found
        except Violation:  # another process was faster
            async with self._database.read() as connection:
                return await read_seen(connection, image_id, _OPERATOR)
        return image


async def _chunks(parts: AsyncIterator[bytes], idle_timeout_s: float) -> AsyncIterator[bytes]:
    """The parts joined into chunks worth a thread's while. Raises Invalid when nothing comes for too long."""
    waiting: list[bytes] = []
    size = 0
    while True:
        try:
            async with asyncio.timeout(idle_timeout_s):
                part = await anext(parts)
        except StopAsyncIteration:
            break
        except TimeoutError as error:
            raise Invalid(f"Nothing arrived for {idle_timeout_s:.0f} seconds") from error
        waiting.append(part)
        size += len(part)
        if size >= CHUNK_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _sha512(path: Path) -> tuple[str, int]:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha512").hexdigest(), file.tell()
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path.name}") from error

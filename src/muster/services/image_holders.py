"""This machine as a holder of images' files, where control machines have folders of their own (decision 13).

Invariants: a file is given out only while the database says that this machine has the image's file; that is written
only when size and sha512 of the file are the image's, in a transaction that holds the image's row, and with it the
file's name: an image that had the same id before is never taken for it. Of the tasks of a machine, in whatever process,
one at a time fetches an image.
"""

import asyncio
from collections.abc import Collection, Sequence
from pathlib import Path
from random import Random

from muster.base.errors import Invalid, MusterError, NotFound, TooLarge, Transient
from muster.base.log import get_logger
from muster.base.metrics import IMAGE_COPIES
from muster.base.tasks import to_its_end
from muster.domain.images import WITH_CONTENT, Image, has_same_content
from muster.services.image_access import missing
from muster.services.image_download import AT_ONCE, HolderDownloads
from muster.services.image_files import ImageFiles, Reader, parts_of
from muster.services.image_incoming import Incoming
from muster.services.image_place import Place, PlaceWatch
from muster.store import image_holders as store
from muster.store import images as image_store
from muster.store.engine import Connection, Database

#: How long a reader waits for an image that comes from elsewhere, before it is told to ask again.
PATIENCE_S = 5.0
_AGAIN_S = 5.0
_LOOK_S = 0.25

log = get_logger(__name__)


class ImageHolder:
    """The machine that has `place`."""

    def __init__(
        self, place: Place, database: Database, files: ImageFiles, downloads: HolderDownloads, rng: Random
    ) -> None:
        self.url, self.receiver = place.url, place.receiver
        self.watch = PlaceWatch(place, downloads)
        self._database = database
        self._files = files
        self._downloads = downloads
        self._rng = rng
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._rejected: set[tuple[int, ...]] = set()

    async def open(self, image_id: str, *, fetch: bool = True) -> Reader:
        """An image's file, fetched from another machine if need be and if `fetch`.

        Raises NotFound (no machine has it, or this one has not), Transient (it is on its way, or nobody who has it
        answers, or this machine's URL leads to another). One query for a file that is here.
        """
        if not await self._is_here(image_id):
            if not fetch:
                raise _no_data()
            await self._fetched(image_id)
        return await self._files.open(image_id)

    async def received(self, connection: Connection, image_id: str) -> None:
        """In a transaction that holds the image: this machine has its file. Raises Transient (see `watch`)."""
        self.watch.require()
        await store.insert(connection, image_id, self.url)

    async def obtain(self, image_id: str, *, own: Path | None = None, below: int | None = None) -> None:
        """Come to have an image's file: as it is in the folder already, from the file `own`, or from another holder.

        Nothing happens when it is had, or when `below` machines or more have it. Raises NotFound (no such image, or no
        machine has it), Transient (nobody who has it answers; no room). Costs a read of the file, or a download.
        """
        while not await self._is_here(image_id):
            incoming = await self._files.receive_copy(image_id)
            if incoming is None:
                await asyncio.sleep(_LOOK_S)
                continue
            try:
                async with self._turns:
                    await self._obtain(incoming, image_id, own, below)
                return
            except TooLarge as error:
                raise Transient("There is no room for the image here", retry_after_s=60.0) from error
            finally:
                await asyncio.shield(incoming.discard())

    async def forget(self, image_ids: Collection[str]) -> None:
        """Of these images there is no file here, if that is still so: a disk was lost, or is not mounted.

        Raises Transient when what was written down is another machine's (see `watch`), which is asked first.
        """
        await self.watch.look()
        self.watch.require()
        async with self._database.write() as connection:
            found = await image_store.read(connection, image_ids, lock=True)
            lost = [image_id for image_id in found if not await self._files.exists(image_id)]
            await store.remove(connection, lost, self.url)
        if lost:
            log.error(
                "files of images are not here any more; is serve.image_url this machine's alone?",
                action="image_files_lost",
                images=len(lost),
            )

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._downloads.close()

    async def _is_here(self, image_id: str) -> bool:
        self.watch.require()
        async with self._database.read() as connection:
            holders = await store.read(connection, [image_id])
        if self.url not in holders[image_id]:
            return False
        if await self._files.exists(image_id):
            return True
        await self.forget([image_id])
        return False

    async def _fetched(self, image_id: str) -> None:
        """Wait a moment for a fetch that all who ask share. Raises Transient if it takes longer, and goes on."""
        task = self._under_way.get(image_id)
        if task is None:
            task = asyncio.create_task(self.obtain(image_id), name=f"image {image_id}")
            self._under_way[image_id] = task
            task.add_done_callback(lambda done: self._done(image_id, done))
        await asyncio.wait({task}, timeout=PATIENCE_S)
        if not task.done() or task.cancelled():
            raise Transient("The image is on its way from another machine", retry_after_s=_AGAIN_S)
        task.result()

    def _done(self, image_id: str, task: asyncio.Task[None]) -> None:
        del self._under_way[image_id]
        # An error is each waiter's; looked at here, so that one without waiters left is not reported as lost.
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("an image was not fetched", action="image_not_fetched", image=image_id, error=repr(error))

    async def _obtain(self, incoming: Incoming, image_id: str, own: Path | None, below: int | None) -> None:
        async with self._database.read() as connection:
            image = (await image_store.read(connection, [image_id])).get(image_id)
            holders = (await store.read(connection, [image_id]))[image_id]
        if image is None:
            raise missing(image_id)
        if image.status not in WITH_CONTENT:
            raise _no_data()
        if self.url in holders or (below is not None and len(holders) >= below):
            return
        if await self._adopted(image):
            return
        if own is not None:
            async for part in parts_of(own):
                await incoming.write(part)
            _check(incoming, image)
        else:
            await self._fetch(incoming, image, sorted(holders))
        await self._publish(incoming, image)

    async def _adopted(self, image: Image) -> bool:
        """Whether the folder has the file already: it was shared before, or this machine's row was lost."""
        try:
            reader = await self._files.open(image.id)
        except NotFound:
            return False
        try:
            if not await self._is_right(reader, image):
                return False
            async with self._database.write() as connection:
                now = (await image_store.read(connection, [image.id], lock=True)).get(image.id)
                if not has_same_content(now, image) or not await self._files.is_still(image.id, reader):
                    return False
                await self.received(connection, image.id)
        finally:
            reader.close()
        IMAGE_COPIES.labels("found").inc()
        return True

    async def _is_right(self, reader: Reader, image: Image) -> bool:
        """Whether a file is an image's. Reads it whole, if its size is right and it was not found wrong before."""
        if reader.identity in self._rejected:
            return False
        is_right = reader.size == image.size and await reader.sha512() == image.os_hash_value
        if not is_right:
            self._rejected.add(reader.identity)
            log.warning("a file is not the image of its name", action="image_file_rejected", image=image.id)
        return is_right

    async def _fetch(self, incoming: Incoming, image: Image, holders: Sequence[str]) -> None:
        """From one holder after the other, in any order. Raises NotFound if there is none, Transient, TooLarge."""
        if not holders:
            raise _no_data()
        for holder in self._rng.sample(holders, len(holders)):
            try:
                await asyncio.to_thread(incoming.restart)
                await self._downloads.fetch(holder, image, incoming)
                _check(incoming, image)
            except (NotFound, Transient, Invalid) as error:
                IMAGE_COPIES.labels("failed").inc()
                log.warning(
                    "a machine is passed over",
                    action="image_holder_passed_over",
                    image=image.id,
                    holder=holder,
                    error=error.message,
                )
                continue
            IMAGE_COPIES.labels("fetched").inc()
            return
        raise Transient("No machine that has the image's file gives it", retry_after_s=_AGAIN_S)

    async def _publish(self, incoming: Incoming, image: Image) -> None:
        """Raises NotFound when the image was deleted meanwhile, what a transaction raises."""
        await incoming.seal()
        async with self._database.write() as connection:
            now = (await image_store.read(connection, [image.id], lock=True)).get(image.id)
            if not has_same_content(now, image):
                raise missing(image.id)
            await to_its_end(incoming.publish())
            await self.received(connection, image.id)
        await incoming.close()


def _check(incoming: Incoming, image: Image) -> None:
    """Raises Invalid unless what came is what the image's record says."""
    if (incoming.size, incoming.sha512) != (image.size, image.os_hash_value):
        raise Invalid(f"{incoming.size} bytes came that are not the image")


def _no_data() -> MusterError:
    return NotFound("No image data could be found")

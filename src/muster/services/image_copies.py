"""Copies of images where machines have folders of their own: each machine sees to it that there are enough.

Invariant: of the workers of a machine one at a time does it; twice is harmless.
"""

from collections.abc import Collection
from random import Random

from muster.base.errors import MusterError
from muster.base.log import get_logger
from muster.domain.images import WITH_CONTENT
from muster.services.image_files import ImageFiles
from muster.services.image_holders import ImageHolder
from muster.store import image_holders as store
from muster.store import images as image_store
from muster.store.engine import Database

log = get_logger(__name__)


class ImageCopies:
    """Sees to it that each image is on `copies` machines, as far as this one can."""

    def __init__(self, database: Database, files: ImageFiles, holder: ImageHolder, copies: int, rng: Random) -> None:
        self._database = database
        self._files = files
        self._holder = holder
        self._copies = copies
        self._rng = rng

    async def look(self) -> None:
        """Write down which files are lost and which are there; fetch what too few machines have.

        Nothing when another worker of the machine is at it, or its URL leads elsewhere, which is asked first. Costs
        that, a listing of the folder and three queries, and what is done. What goes wrong with an image is told in the
        log, and tried again the next time. Raises Transient.
        """
        await self._holder.watch.look()
        if self._holder.watch.is_wrong:
            return
        with self._files.copying() as mine:
            if not mine:
                return
            async with self._database.read() as connection:
                held = await store.read_held(connection, self._holder.url)
            whole, _ = await self._files.ids()  # after the rows: a file is there before its row is
            if lost := held - whole:
                await self._holder.forget(lost)
            await self._obtain(await self._with_content(whole - held), None)
            async with self._database.read() as connection:
                rare = await store.read_rare(connection, self._holder.url, self._copies)
            if nowhere := [image_id for image_id, count in rare.items() if not count]:
                log.warning(
                    "images are on no machine: put their files back from a backup, into the folder images of any",
                    action="image_nowhere",
                    images=len(nowhere),
                    one=nowhere[0],
                )
            await self._obtain(rare.keys() - set(nowhere), self._copies)

    async def _with_content(self, image_ids: Collection[str]) -> set[str]:
        async with self._database.read() as connection:
            statuses = await image_store.read_statuses(connection, image_ids)
        return {image_id for image_id, status in statuses.items() if status in WITH_CONTENT}

    async def _obtain(self, image_ids: Collection[str], below: int | None) -> None:
        """One after the other, in an order of this machine's own: others do the same meanwhile."""
        for image_id in self._rng.sample(sorted(image_ids), len(image_ids)):
            try:
                await self._holder.obtain(image_id, below=below)
            except MusterError as error:
                log.warning("an image was not copied", action="image_not_copied", image=image_id, error=error.message)

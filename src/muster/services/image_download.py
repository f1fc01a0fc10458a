"""Images' files from other control machines, over HTTP, with a ticket of our own making.

Invariant: who is asked is what machines wrote of themselves (`store.image_holders`), from their settings; nothing that
a user says becomes a URL.
"""

from concurrent.futures import ThreadPoolExecutor

from muster.base.errors import Transient
from muster.base.image_download import HOLDER, TICKET, Download, ImageServer, Refused, in_its_thread
from muster.domain.images import Image
from muster.services.image_incoming import Incoming
from muster.services.image_tickets import ImageTickets

#: Downloads of a process at a time: each has a thread.
AT_ONCE = 4
SILENCE_S = 10.0


class HolderDownloads:
    """For one process; `holder` is its machine's own URL, which it tells whom it asks."""

    def __init__(self, tickets: ImageTickets, holder: str, *, silence_s: float = SILENCE_S) -> None:
        self._tickets = tickets
        self._holder = holder
        self._silence_s = silence_s
        # Not the threads in which files are read for clients: those must not wait for a machine that is silent.
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="image-download")
        self._servers: dict[str, ImageServer] = {}

    async def fetch(self, url: str, image: Image, incoming: Incoming) -> None:
        """Receive an image's file from the machine at `url`: more bytes than its size come to be a few at the most.

        Raises NotFound, Transient, TooLarge (disk full here), Invalid (not a URL). Ends soon after it is cancelled.
        """
        if url not in self._servers:
            self._servers[url] = ImageServer(url, silence_s=self._silence_s)
        download = Download(self._servers[url], image.id, image.size or 0, lambda: self._headers(image.id))
        try:
            await in_its_thread(download, lambda: download.run(incoming), self._threads)
        except Refused as error:
            raise Transient("The ticket was refused: is it the same secret, and the same time?") from error

    def close(self) -> None:
        """No more downloads. Those under way were cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _headers(self, image_id: str) -> dict[str, str]:
        return {TICKET: self._tickets.issue(image_id), HOLDER: self._holder}

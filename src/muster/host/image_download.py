"""Images from the control plane over HTTP, with a ticket for each.

What arrives is not judged here: `images.ImageCache` checks size and digest.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from muster.base.errors import Transient
from muster.base.image_download import TICKET, Download, ImageServer, Refused, in_its_thread
from muster.domain.specs import ImageSpec
from muster.host.image_tickets import ImageTickets

#: Downloads of a host at a time; others wait. Each has a thread.
AT_ONCE = 4
_AGAIN_S = 5.0


class HttpImageSource:
    """`api_url` as in `http://host:8774`; TLS by the system's authorities."""

    def __init__(self, api_url: str, tickets: ImageTickets, *, silence_s: float = 30.0) -> None:
        self._server = ImageServer(api_url, silence_s=silence_s)
        self._tickets = tickets
        # Not the threads that all else is done in: guests must not wait for a server that is slow.
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="image-download")

    async def fetch(self, image: ImageSpec, target: Path) -> None:
        """Write the image to `target`. Raises NotFound; Transient, also while a good ticket is still to come; OSError.

        Ends soon after it is cancelled, with its thread.
        """
        ticket = self._tickets.get(image.id)
        if ticket is None:
            raise Transient(f"image {image.id} waits for its ticket", retry_after_s=1.0)
        download = Download(self._server, image.id, image.size_bytes, lambda: {TICKET: ticket})
        try:
            await in_its_thread(download, lambda: _write(download, target), self._threads)
        except Refused as error:
            self._tickets.refused(image.id, ticket)
            raise Transient(f"image {image.id} waits for a new ticket", retry_after_s=_AGAIN_S) from error


class _FileSink:
    """A file that is open for writing, from its beginning."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def tell(self) -> int:
        return self._file.tell()

    def put(self, data: bytes) -> None:
        self._file.write(data)

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()


def _write(download: Download, target: Path) -> None:
    with target.open("wb") as file:
        download.run(_FileSink(file))

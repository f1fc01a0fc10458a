"""Images' files from other control machines, over HTTP, with a ticket of our own making.

Invariant: who is asked is what machines wrote of themselves (`store.image_holders`), from their settings; nothing that
a user says becomes a URL.
"""

import asyncio
import http.client
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import msgspec
from msgspec import Struct

from muster.base.errors import Transient
from muster.base.image_download import HOLDER, TICKET, Download, ImageServer, Refused, in_its_thread
from muster.domain.images import Image
from muster.services.image_incoming import Incoming
from muster.services.image_tickets import ImageTickets

#: Downloads of a process at a time, which `ImageHolder` sees to: each has a thread.
AT_ONCE = 4
SILENCE_S = 10.0
ANSWER_WITHIN_S = 3.0
#: In the place of an image's id: asks who is there.
MACHINE = "machine"
_ANSWER_MAX = 10_000


class Identity(Struct, frozen=True, kw_only=True):
    """Who answers at a URL: a machine's name, "" for one without images of its own, and what tells it from others of
    that name; "" from a worker of the version before."""

    machine: str
    mark: str = ""

    def is_other(self, mine: "Identity") -> bool:
        """Whether it is another machine than `mine`."""
        return self.machine != mine.machine or ("" not in (self.mark, mine.mark) and self.mark != mine.mark)


class HolderDownloads:
    """For one process; `holder` is its machine's own URL, which it tells whom it asks."""

    def __init__(self, tickets: ImageTickets, holder: str, *, silence_s: float = SILENCE_S) -> None:
        self._tickets = tickets
        self._holder = holder
        self._silence_s = silence_s
        # Not the threads in which files are read for clients: those must not wait for a machine that is silent. One
        # more than there are downloads, which take long: who is at a URL is asked meanwhile.
        self._threads = ThreadPoolExecutor(AT_ONCE + 1, thread_name_prefix="image-download")
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

    async def identity_at(self, url: str) -> Identity:
        """What the machine to which `url` leads says of itself.

        Raises Transient (nobody answers, or a worker of an earlier version), Invalid (not a URL). Ends within
        `ANSWER_WITHIN_S` or so.
        """
        server = ImageServer(url, silence_s=ANSWER_WITHIN_S)
        headers = {TICKET: self._tickets.issue(MACHINE)}
        return await asyncio.get_running_loop().run_in_executor(self._threads, _ask_identity, server, headers)

    def close(self) -> None:
        """No more downloads. Those under way were cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _headers(self, image_id: str) -> dict[str, str]:
        return {TICKET: self._tickets.issue(image_id), HOLDER: self._holder}


def _ask_identity(server: ImageServer, headers: Mapping[str, str]) -> Identity:
    connection = server.connection()
    try:
        connection.request("GET", server.path(MACHINE), headers=dict(headers))
        response = connection.getresponse()
        body = response.read(_ANSWER_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise Transient(f"nobody is there: {error!r}") from error
    finally:
        connection.close()
    match response.status:
        case http.client.OK:
            return _identity_of(body)
        case http.client.FORBIDDEN:
            return Identity(machine="a machine of another cluster")
        case status:
            raise Transient(f"status {status}")


def _identity_of(body: bytes) -> Identity:
    try:
        return msgspec.json.decode(body, type=Identity)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return Identity(machine="something that is no control machine")

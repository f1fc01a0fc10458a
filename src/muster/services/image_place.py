"""Where this machine has images of its own, and whether the URL under which others know it leads here.

A settings file that was copied, or a load balancer's address, makes two machines one holder: each would remove what
the other wrote down of its files, and an upload at one would be looked for at the other. So each asks its own URL who
is there: regularly, and before it removes what was written down (a process that has just begun knows nothing).
Invariant: while another machine answers, this one gives out no image, takes none in, writes nothing down of any and
is not ready; the machine to which the URL does lead notices nothing. Where nobody answers nothing is known, and all
stays as it was: most likely this machine does not serve yet, or the other is off.
"""

from msgspec import Struct

from muster.base.errors import Invalid, MusterError, Transient
from muster.base.log import get_logger
from muster.services.image_download import HolderDownloads, Identity

log = get_logger(__name__)

_WRONG = "serve.image_url leads to another machine"


class Place(Struct, frozen=True, kw_only=True):
    """An image folder that is one machine's own. `url` is where other control machines reach this one's workers, and
    its name as a holder; `machine` is its host's name, `folder` that of the settings, and `mark` what no other machine
    has at the same time, were both names the same.
    """

    url: str
    machine: str
    folder: str = ""
    mark: str = ""

    @property
    def receiver(self) -> str:
        """Its name as the receiver of uploads: its own also if another is told the same URL by mistake."""
        return f"{self.url} {self.machine}"

    @property
    def identity(self) -> Identity:
        """What all workers of the machine say of themselves, and those of no other."""
        return Identity(machine=f"{self.machine}:{self.folder}", mark=self.mark)


class PlaceWatch:
    """What this process knows of its machine's place."""

    def __init__(self, place: Place, downloads: HolderDownloads) -> None:
        self._place = place
        self._downloads = downloads
        self.is_wrong = False

    async def look(self) -> None:
        """Ask the URL who is there. One request; says so in the log when the answer is another than before."""
        url, mine = self._place.url, self._place.identity
        try:
            there = await self._downloads.identity_at(url)
        except MusterError:
            return
        if there.is_other(mine) == self.is_wrong:
            return
        self.is_wrong = not self.is_wrong
        if self.is_wrong:
            name = "another of this name" if there.machine == mine.machine else there.machine or "one without"
            log.error(_WRONG, action="image_url.wrong", url=url, leads_to=name, machine=mine.machine)
        else:
            log.warning("serve.image_url leads here again", action="image_url.right", url=url)

    def require(self) -> None:
        """Raises Transient while the URL leads elsewhere."""
        if self.is_wrong:
            raise Transient(f"No images here: {_WRONG}", retry_after_s=60.0)

    async def check(self) -> None:
        """For `Readiness`: raises Invalid while the URL leads elsewhere."""
        if self.is_wrong:
            raise Invalid(_WRONG)

"""What is looked after as long as the agent runs, whatever is asked of it: what guests write, guests that stand still,
and what nobody needs any more.

Invariants: each look costs the same whatever guests do; one that fails is told of, and the next one comes all the same.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

from muster.base.errors import MusterError
from muster.base.log import get_logger
from muster.base.tasks import kept_running
from muster.base.units import KIB
from muster.host.complaint import Complaint
from muster.host.hypervisor.libvirt import console, domains
from muster.host.hypervisor.libvirt.connection import Connection
from muster.host.hypervisor.libvirt.files import Files
from muster.host.hypervisor.libvirt.folder import Damaged, folders
from muster.host.hypervisor.libvirt.guests import qemu_log
from muster.host.hypervisor.libvirt.kept import Shelf
from muster.host.hypervisor.libvirt.settings import LibvirtSettings

#: Removes images that have been idle for so many seconds; the bytes freed.
Evict = Callable[[float], Awaitable[int]]

log = get_logger(__name__)


class Care:
    """Looks until `close`. Must be made where an event loop runs."""

    def __init__(self, settings: LibvirtSettings, connection: Connection, files: Files, evict: Evict) -> None:
        self._settings = settings
        self._connection = connection
        self._files = files
        self._evict = evict
        self._shelf = Shelf(settings.instances_dir)
        self._now = asyncio.get_running_loop().time
        self._overlong, self._stalled = Complaint(), Complaint()
        looks = {
            "guests' consoles": self._bound_consoles,
            "stalled guests": self._resume_stalled,
            "kept guests": self._expire_kept,
            "idle images": self._evict_idle,
        }
        self._tasks = [asyncio.create_task(kept_running(name, look), name=name) for name, look in looks.items()]

    async def close(self) -> None:
        """Look no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _bound_consoles(self) -> None:
        """Keep small what a guest can make grow: two stats per guest each time, in a thread."""
        keep_bytes = self._settings.console_kib * KIB

        def work() -> list[OSError]:
            failures = []
            for path in self._endless():
                try:
                    console.bound(path, keep_bytes)
                except OSError as error:  # one that cannot be cut is no reason to let the others grow
                    failures.append(error)
            return failures

        while True:
            await asyncio.sleep(self._settings.console_check_s)
            failures = await self._files.run(work)
            if not failures:
                self._overlong.over()
            elif self._overlong.due(self._now()):
                what = "consoles cannot be cut and may fill the disk"
                log.error(what, action="console_not_bounded", consoles=len(failures), first=str(failures[0]))

    def _endless(self) -> Iterator[Path]:
        """What is written to as long as guests run: their consoles, and what QEMU complains of them."""
        logs = self._settings.qemu_log_dir
        for folder in folders(self._settings.instances_dir):
            yield folder.console
            if logs is not None:
                yield qemu_log(logs, folder.server_id)

    async def _resume_stalled(self) -> None:
        """QEMU pauses a guest that finds no room on the host's disk, and nobody tells it when there is some again.

        One call each time; not counted in `libvirt_calls`, which says what guests cost.
        """
        while True:
            await asyncio.sleep(self._settings.stalled_check_s)
            ours = await self._files.run(lambda: {folder.server_id for folder in folders(self._settings.instances_dir)})
            try:
                stalled = await self._connection.call(domains.resume_stalled(ours), 0)
            except MusterError:  # libvirt is away, and whoever needs it more has said so
                continue
            if not stalled:
                self._stalled.over()
            elif self._stalled.due(self._now()):
                log.error(
                    "guests stood still for want of room on the host's disk and are tried again: make room",
                    action="guests_stalled",
                    servers=stalled,
                    directory=str(self._settings.instances_dir),
                )

    async def _expire_kept(self) -> None:
        """What was kept for long enough goes: a small file per kept guest each time."""
        keep_s, was_s = self._settings.keep_unknown_s, self._now()
        while True:
            await asyncio.sleep(self._settings.kept_check_s)
            by_s = self._now() - was_s
            removed = await self._files.run(partial(self._shelf.age, by_s, keep_s))
            was_s += by_s
            if removed:
                log.warning("kept guests removed: their time is over", action="kept_expired", servers=removed)

    async def _evict_idle(self) -> None:
        """What no guest has needed for long goes: a small file per guest each time."""
        while True:
            await asyncio.sleep(self._settings.images_check_s)
            try:
                freed = await self._evict(self._settings.images_idle_s)
            except Damaged:  # `observe` has complained: what that disk is a clone of is not known
                continue
            if freed:
                log.info("images removed that no guest needs", action="images_evicted", freed_bytes=freed)

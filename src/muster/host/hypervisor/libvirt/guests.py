"""What is done to one guest. Whoever calls holds the server's turn.

Invariants: a creation is one call to libvirt; the record is brought up to date after the old domain has ended and
before the new one is created, so that it never says more than is true.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import msgspec

from muster.base.errors import Conflict, Invalid, MusterError, NotFound
from muster.domain.reports import GuestState
from muster.domain.specs import ServerSpec
from muster.host.hypervisor.libvirt import domains
from muster.host.hypervisor.libvirt.connection import Connection
from muster.host.hypervisor.libvirt.decide import Step, next_step
from muster.host.hypervisor.libvirt.definition import define, domain_name
from muster.host.hypervisor.libvirt.disks import Builder, has_base, is_prepared, restore_base
from muster.host.hypervisor.libvirt.domainxml.node import render
from muster.host.hypervisor.libvirt.events import Feed
from muster.host.hypervisor.libvirt.files import Files
from muster.host.hypervisor.libvirt.folder import Folder, Record
from muster.host.hypervisor.libvirt.kept import Shelf
from muster.host.hypervisor.libvirt.settings import LibvirtSettings
from muster.host.images import CachedImage
from muster.host.ports import Stranger

#: How long libvirt's event of a domain that it has ended may take.
_EVENT_TIMEOUT_S = 2.0


class Guests:
    """Prepares, starts, ends and removes single guests. All methods raise errors of `base.errors`."""

    def __init__(
        self, settings: LibvirtSettings, connection: Connection, files: Files, feed: Feed, builder: Builder
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._files = files
        self._feed = feed
        self._builder = builder
        self._hurried: dict[str, asyncio.Event] = {}  # of guests that are being asked to shut down
        self.shelf = Shelf(settings.instances_dir)

    def folder(self, server_id: str) -> Folder:
        """The server's folder, whether it is there or not. Raises Invalid."""
        return Folder(self._settings.instances_dir, server_id)

    def found(self, server: ServerSpec) -> Record | None:
        """The server's record; of one that was put aside, after it has been taken back. Blocks. Raises Damaged."""
        folder = self.folder(server.id)
        record = folder.read()
        return folder.read() if record is None and self.shelf.take_back(server.id) else record

    async def prepare(self, server: ServerSpec, image: CachedImage | MusterError | None) -> None:
        """Its disk is the one asked for. One of a lower nonce is replaced, after its guest has been ended.

        `image` None: the server has none, or needs none since all is there.
        """
        folder = self.folder(server.id)
        record = await self._files.run(lambda: self.found(server))
        if record is not None and is_prepared(record, server):
            if isinstance(image, CachedImage):
                await self._files.run(lambda: restore_base(record, image))
            elif image is not None and not await self._files.run(lambda: has_base(record)):
                raise image
            return
        found = required(image)
        # Without a folder there is nothing to end: a new server costs libvirt nothing here.
        if await self._files.run(folder.path.exists):
            with self._feed.quiet(server.id):
                await self.power_off(server.id, hard=True)
        await self._files.run(lambda: self._builder.build(folder, server, found))

    async def start(self, server: ServerSpec, runs: Callable[[], Awaitable[bool]]) -> None:
        """It runs, booted with the asked nonce or a newer one. `runs` finds out whether it does already."""
        folder = self.folder(server.id)
        record = await self._files.run(folder.read)
        if record is not None and is_prepared(record, server) and record.boot_nonce == server.boot_nonce:
            # Whether it runs need not be known: libvirt refuses a second, and the one that runs was booted as asked.
            try:
                await self._create(server, record, folder)
            except Conflict:
                if not await runs():  # it was just ending, and has ended by now
                    await self._create(server, record, folder)
            return
        step = next_step(server, record, runs=await runs())
        if step is Step.PREPARE_FIRST or record is None:
            raise Conflict("its disk has not been prepared")
        if step is Step.START:
            await self._create(server, record, folder)
        elif step is Step.RESTART:
            with self._feed.quiet(server.id):
                await self.power_off(server.id, hard=server.boot_hard)
            try:
                await self._create(server, record, folder)
            except MusterError:
                self._feed.tell(server.id, GuestState.STOPPED)
                raise

    async def power_off(self, server_id: str, *, hard: bool) -> None:
        """It has ended: at once, or by its power button and after the set time at once. None running is no error."""
        with contextlib.suppress(NotFound), self._feed.stopping(server_id) as stopped:
            if not hard and await self._pressed(server_id, stopped):
                return
            # One that is just ending by itself cannot be destroyed; its end is waited for all the same.
            with contextlib.suppress(Conflict):
                await self._connection.call(domains.destroy(server_id), 2)
            if not await _any_set_within(_EVENT_TIMEOUT_S, stopped):
                # A libvirtd that was restarted, and ends a guest while it is still taking it over, tells nobody.
                self._feed.tell(server_id, GuestState.STOPPED)

    def hurry(self, server_ids: Iterable[str]) -> None:
        """Those of these guests that are being asked to shut down are ended at once: somebody waits for their turn."""
        for server_id in server_ids:
            if (hurried := self._hurried.get(server_id)) is not None:
                hurried.set()

    async def remove(self, server_id: str) -> None:
        """Nothing of it is left."""
        folder = self.folder(server_id)
        with self._feed.quiet(server_id):
            await self.power_off(server_id, hard=True)
            await self._files.run(lambda: _delete(folder, self._settings.qemu_log_dir))
        self._feed.tell(server_id, GuestState.ABSENT)

    async def keep(self, stranger: Stranger, now: float) -> None:
        """It has ended, and its folder is put aside; with no time to keep it, it is removed."""
        server_id = stranger.server_id
        if not self._settings.keep_unknown_s:
            await self.remove(server_id)
            return
        with self._feed.quiet(server_id):
            await self.power_off(server_id, hard=False)
            await self._files.run(lambda: self.shelf.put(server_id, stranger.spec, now))
        self._feed.tell(server_id, GuestState.ABSENT)

    async def _create(self, server: ServerSpec, record: Record, folder: Folder) -> None:
        xml = render(define(server, record, folder, self._settings))
        if record.boot_nonce != server.boot_nonce:
            newer = msgspec.structs.replace(record, boot_nonce=server.boot_nonce)
            await self._files.run(lambda: folder.write(newer))
        await self._connection.call(domains.create(xml))

    async def _pressed(self, server_id: str, stopped: asyncio.Event) -> bool:
        """Whether pressing the power button ended it before its time was over, or somebody hurried: again and again, as
        Nova does it, since a guest that is still booting does not listen yet. Raises NotFound when it did not run."""
        until = time.monotonic() + self._settings.shutdown_timeout_s
        hurried = self._hurried[server_id] = asyncio.Event()
        try:
            with contextlib.suppress(Conflict):
                await self._connection.call(domains.press_power_button(server_id), 2)
            while True:
                pause_s = min(self._settings.press_again_s, max(0.0, until - time.monotonic()))
                if await _any_set_within(pause_s, stopped, hurried) or time.monotonic() >= until:
                    break
                with contextlib.suppress(Conflict, NotFound):  # it is just ending
                    await self._connection.call(domains.press_power_button(server_id), 2)
        finally:
            del self._hurried[server_id]
        return stopped.is_set()


def required(image: CachedImage | MusterError | None) -> CachedImage:
    """The image of a new disk. Raises why there is none."""
    if image is None:
        raise Invalid("a server needs an image to boot from")
    if isinstance(image, MusterError):
        raise image
    return image


def qemu_log(folder: Path, server_id: str) -> Path:
    """Where libvirt has written what QEMU said of a guest."""
    return folder / f"{domain_name(server_id)}.log"


def _delete(folder: Folder, qemu_log_dir: Path | None) -> None:
    folder.remove()
    if qemu_log_dir is not None:
        qemu_log(qemu_log_dir, folder.server_id).unlink(missing_ok=True)


async def _any_set_within(timeout_s: float, *events: asyncio.Event) -> bool:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        done, _ = await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    return bool(done)

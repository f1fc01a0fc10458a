"""`LibvirtHypervisor`: the `Hypervisor` protocol with real guests.

Invariants: one thing at a time per server, any number of servers at once; one guest's failure is its own; whatever a
crash leaves is seen by `observe` as it is, and can be removed.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import libvirt

from muster.base.clock import Clock, system_clock
from muster.base.errors import Conflict, MusterError, NotFound, Transient
from muster.base.log import get_logger
from muster.domain.diagnostics import Diagnostics
from muster.domain.reports import GuestState, HostCapacity
from muster.domain.specs import ServerSpec
from muster.host.hypervisor.libvirt import console, domains
from muster.host.hypervisor.libvirt.cards import Removals
from muster.host.hypervisor.libvirt.care import Care
from muster.host.hypervisor.libvirt.connection import Connection
from muster.host.hypervisor.libvirt.decide import fault_of
from muster.host.hypervisor.libvirt.definition import domain_name
from muster.host.hypervisor.libvirt.diagnostics import diagnostics
from muster.host.hypervisor.libvirt.disks import Builder, NetworkOf, has_base, is_prepared
from muster.host.hypervisor.libvirt.domainxml.domain import Mark
from muster.host.hypervisor.libvirt.events import Feed
from muster.host.hypervisor.libvirt.files import Files
from muster.host.hypervisor.libvirt.folder import Damaged, Folder, Record, folders
from muster.host.hypervisor.libvirt.guests import Guests, required
from muster.host.hypervisor.libvirt.replug import Cards
from muster.host.hypervisor.libvirt.settings import LibvirtSettings
from muster.host.hypervisor.libvirt.turns import Turns
from muster.host.images import CachedImage, ImageCache, OnItsWay
from muster.host.ports import Guest, GuestEvent, Outcome, Stranger

_T = TypeVar("_T")

_RECONNECT_S = 1.0
#: Nonce of what has no usable disk: lower than any that is asked for.
_UNFINISHED = -1
#: Nonce of a disk that is there though nobody can tell which it is: higher than any that is asked for, so that it is
#: never replaced.
_UNTOLD = 1 << 62

_STATES = {
    libvirt.VIR_DOMAIN_EVENT_STARTED: GuestState.RUNNING,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: GuestState.STOPPED,
    libvirt.VIR_DOMAIN_EVENT_CRASHED: GuestState.STOPPED,
}

log = get_logger(__name__)


class LibvirtHypervisor:
    """Guests of one host; see `Hypervisor` for the contract. Must be made where an event loop runs.

    While libvirt is away as a whole, `observe` and `capacity` raise Transient, and `start` puts servers off.
    """

    def __init__(
        self,
        settings: LibvirtSettings,
        images: ImageCache,
        network_of: NetworkOf = lambda network_id: None,
        clock: Clock = system_clock,
    ) -> None:
        self._settings = settings
        self._images = images
        self._clock = clock
        self._files = Files()
        self._feed = Feed()
        self._turns = Turns()
        self._images_in_use: dict[str, int] = {}
        self._images_wanted: set[str] = set()  # these, and all that were in use since idle ones were last looked for
        self._folderless: dict[str, Mark | None] = {}
        self._damaged: set[str] = set()
        self._removals = Removals()
        self._connection = Connection(
            settings.uri,
            settings.threads,
            on_event=self._happened,
            on_removed=self._removals.happened,
            on_lost=self._lost,
        )
        self._cards = Cards(self._connection, self._removals, settings.card_timeout_s)
        builder = Builder(
            network_of=network_of, dns_domain=settings.dns_domain, always_config_drive=settings.always_config_drive
        )
        self._guests = Guests(settings, self._connection, self._files, self._feed, builder)
        self._reconnecting: asyncio.Task[None] | None = None
        self._care = Care(settings, self._connection, self._files, self.evict_images)

    @property
    def libvirt_calls(self) -> int:
        """How many calls to libvirt there have been."""
        return self._connection.calls

    async def capacity(self) -> HostCapacity:
        """What the host has. Raises Transient. Two calls."""
        directory = self._settings.instances_dir
        await self._files.run(lambda: directory.mkdir(mode=0o711, parents=True, exist_ok=True))
        return await self._connection.call(domains.capacity(directory, self._settings.reserved_ram_mib), 2)

    async def version(self) -> int:
        """QEMU's version: 7.2.17 is 7002017. Raises Transient. One call; the first one asks QEMU what it can do."""
        return await self._connection.call(lambda connection: int(connection.getVersion()))

    async def observe(self) -> Mapping[str, Guest]:
        """All guests and leftovers. Raises Transient. One call, and a small file per guest."""
        # Folders first: a guest that is made meanwhile is then seen without its folder, and asked for its mark.
        records = await self._files.run(self._records)
        runs = await self._connection.call(domains.running)
        guests = {server_id: _seen(server_id, record, server_id in runs) for server_id, record in records.items()}
        damaged = {server_id for server_id, record in records.items() if isinstance(record, Damaged)}
        self._complain(damaged)
        for server_id, mark in (await self._marks(runs - (records.keys() - damaged))).items():
            if mark is not None and mark.owner == self._settings.owner:
                guests[server_id] = _marked(server_id, mark)
        return guests

    async def fetch(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        """Images, each once for all that need it; a server whose image takes long is put off. No call to libvirt."""
        with self._using_images(servers):
            wanted = [server.image for server in servers if server.image]
            images = await self._images.ensure(wanted, self._settings.image_patience_s)

        async def one(server: ServerSpec) -> None:
            required(_image(server, images))

        return await self._each(servers, lambda server: server.id, one)

    async def prepare(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        """Disks and config drives. A higher `disk_nonce` than the disk's ends the guest and makes its disk anew.

        A disk's base image that somebody has removed is fetched again.
        No call to libvirt for a new server. Images are fetched once for all that need them; a server whose image takes
        long is put off.
        """
        with self._using_images(servers):
            # What is prepared needs no image: it starts while the image store is away.
            needed = await self._files.run(lambda: [server for server in servers if not self._is_prepared(server)])
            wanted = [server.image for server in needed if server.image]
            images = await self._images.ensure(wanted, self._settings.image_patience_s)

            async def one(server: ServerSpec) -> None:
                await self._guests.prepare(server, _image(server, images))

            return await self._each(servers, lambda server: server.id, one)

    async def start(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        """Start, or restart with a higher `boot_nonce`.

        One call per guest that is started; one more for the batch where one may run already.
        """
        moment = self._turns.moment()
        listing: list[asyncio.Task[set[str]]] = []

        async def one(server: ServerSpec) -> None:
            async def runs() -> bool:
                if self._turns.changed_since(server.id, moment):
                    return await self._connection.call(domains.is_running(server.id), 2)
                if not listing:
                    listing.append(asyncio.create_task(self._connection.call(domains.running)))
                return server.id in await listing[0]

            await self._guests.start(server, runs)

        return await self._each(servers, lambda server: server.id, one)

    async def replug(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        """Attach and detach network cards of those that run. Raises Transient.

        One call for the batch, two per guest that runs, and two per card that changes.
        """
        listed = await self._connection.call(domains.running)
        return await self._each(
            [server for server in servers if server.id in listed], lambda server: server.id, self._cards.replug
        ) + [Outcome(server.id) for server in servers if server.id not in listed]

    async def stop(self, server_ids: Sequence[str], *, hard: bool) -> list[Outcome]:
        """End guests: at once, or by the power button and after `shutdown_timeout_s` at once.

        Who ends them at once does not wait for a power button that was pressed before.
        """
        if hard:
            self._guests.hurry(server_ids)
        return await self._each(server_ids, str, lambda server_id: self._guests.power_off(server_id, hard=hard))

    async def remove(self, server_ids: Sequence[str]) -> list[Outcome]:
        """End guests and delete their folders. What could not be deleted is seen by `observe`."""
        return await self._each(server_ids, str, self._guests.remove)

    async def keep(self, strangers: Sequence[Stranger]) -> list[Outcome]:
        """End guests, by the power button first, and put their folders aside: see `kept`."""
        return await self._each(
            strangers,
            lambda stranger: stranger.server_id,
            lambda stranger: self._guests.keep(stranger, self._clock()),
        )

    async def console_output(self, server_id: str, n_lines: int | None) -> str:
        """The end of a guest's console, 100 KiB at most, running or not. Raises NotFound. No call to libvirt."""
        folder = self._guests.folder(server_id)
        if not await self._files.run(folder.path.exists):
            raise NotFound("no such guest on this host")
        return await self._files.run(lambda: console.tail(folder.console, n_lines))

    async def diagnostics(self, server_id: str) -> Diagnostics:
        """What a guest takes. Raises NotFound, Conflict for one that does not run, Transient. Up to three calls."""
        if not await self._files.run(self._guests.folder(server_id).path.exists):
            raise NotFound("no such guest on this host")
        try:
            return await self._connection.call(diagnostics(server_id, self._settings.accelerator), 3)
        except NotFound as error:  # guests are transient domains: what does not run is none
            raise Conflict("the guest does not run") from error

    async def evict_images(self, idle_s: float = 0.0) -> int:
        """Remove cached images that no disk is a clone of, kept ones included, and that nobody has asked for, for so
        long; the bytes freed. Raises Damaged, Transient."""
        self._images_wanted = set(self._images_in_use)

        def read() -> set[str]:
            # The guests' twice: a folder that is put aside or taken back meanwhile is in one of the three.
            looks = (self._folders, self._guests.shelf.folders, self._folders)
            records = [folder.read() for look in looks for folder in look()]
            return {record.image_sha512 for record in records if record is not None}

        used = await self._files.run(read)
        return await self._images.evict(lambda: used | self._images_wanted, idle_s)

    def events(self) -> AsyncIterator[GuestEvent]:
        """States as they change, for one consumer; ends with `close`."""
        return self._feed.events()

    async def close(self) -> None:
        """Leave; guests keep running."""
        await self._care.close()
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        await self._connection.close()
        await asyncio.get_running_loop().run_in_executor(None, self._files.close)
        self._feed.close()

    async def _each(
        self, items: Sequence[_T], id_of: Callable[[_T], str], work: Callable[[_T], Awaitable[None]]
    ) -> list[Outcome]:
        """Work on all items at once, each in its server's turn; an outcome for each."""
        on_their_way: dict[str, asyncio.Task[CachedImage]] = {}

        async def one(item: _T) -> Outcome:
            server_id = id_of(item)
            try:
                async with self._turns.of(server_id):
                    await work(item)
            except OnItsWay as error:  # as it should be, and told when it began
                on_their_way[server_id] = error.fetch
                return Outcome(server_id, retry_after_s=error.retry_after_s)
            except Transient as error:
                log.warning("guest put off", action="guest_put_off", server=server_id, error=str(error))
                return Outcome(server_id, retry_after_s=error.retry_after_s)
            except MusterError as error:
                log.warning("guest failed", action="guest_failed", server=server_id, code=error.code, error=str(error))
                return Outcome(server_id, fault_of(error))
            return Outcome(server_id)

        outcomes = list(await asyncio.gather(*(one(item) for item in items)))
        for server_id, fetch in on_their_way.items():  # told once the caller has put it off, at the earliest
            fetch.add_done_callback(partial(self._came, server_id))
        return outcomes

    def _came(self, server_id: str, fetch: asyncio.Task[CachedImage]) -> None:
        """The image that a server was put off for is here, or cannot be had."""
        self._feed.tell(server_id, GuestState.PENDING)

    def _is_prepared(self, server: ServerSpec) -> bool:
        with contextlib.suppress(MusterError):
            record = self._guests.found(server)
            return record is not None and is_prepared(record, server) and has_base(record)
        return True  # its own turn will find out what is wrong

    def _records(self) -> dict[str, Record | Damaged | None]:
        found: dict[str, Record | Damaged | None] = {}
        for folder in folders(self._settings.instances_dir):
            try:
                found[folder.server_id] = folder.read()
            except Damaged as error:
                found[folder.server_id] = error
        return found

    def _complain(self, damaged: set[str]) -> None:
        """Once of each guest, not with each look."""
        for server_id in sorted(damaged - self._damaged):
            log.error(
                "a guest's record cannot be read: its disk is left alone and it is not started; restore the record, or "
                "delete the server",
                action="record_damaged",
                server=server_id,
                folder=str(self._settings.instances_dir / server_id),
            )
        self._damaged = damaged

    async def _marks(self, server_ids: set[str]) -> Mapping[str, Mark | None]:
        """Marks of domains without a record, read once each: on a shared libvirt these are other agents' guests."""
        self._folderless = {known: mark for known, mark in self._folderless.items() if known in server_ids}
        unknown = sorted(server_ids - self._folderless.keys())
        if unknown:
            self._folderless |= await self._connection.call(domains.marks(unknown), 2 * len(unknown))
        return self._folderless

    @contextlib.contextmanager
    def _using_images(self, servers: Sequence[ServerSpec]) -> Iterator[None]:
        """These servers' images are not evicted meanwhile."""
        digests = [server.image.sha512.lower() for server in servers if server.image]
        self._images_wanted.update(digests)
        for digest in digests:
            self._images_in_use[digest] = self._images_in_use.get(digest, 0) + 1
        try:
            yield
        finally:
            for digest in digests:
                self._images_in_use[digest] -= 1
                if not self._images_in_use[digest]:
                    del self._images_in_use[digest]

    def _happened(self, domain_uuid: str, name: str, event: int) -> None:
        if event in _STATES and name == domain_name(domain_uuid):
            self._feed.tell(domain_uuid, _STATES[event])

    def _lost(self) -> None:
        if self._reconnecting is None or self._reconnecting.done():
            log.warning("connection to libvirt lost", action="libvirt_lost", uri=self._settings.uri)
            self._reconnecting = asyncio.create_task(self._reconnect(), name="libvirt-reconnect")

    async def _reconnect(self) -> None:
        """Events are lost with a connection: afterwards every guest's state is told."""
        while True:
            try:
                guests = await self.observe()
            except MusterError:
                await asyncio.sleep(_RECONNECT_S)
                continue
            log.warning("connected to libvirt again", action="libvirt_back", guests=len(guests))
            for server_id, guest in guests.items():
                self._feed.tell(server_id, guest.state)
            return

    def _folders(self) -> list[Folder]:
        return list(folders(self._settings.instances_dir))


def _seen(server_id: str, record: Record | Damaged | None, runs: bool) -> Guest:
    state = GuestState.RUNNING if runs else GuestState.STOPPED
    if not isinstance(record, Record):
        nonce = _UNFINISHED if record is None else _UNTOLD
        return Guest(server_id=server_id, state=state, boot_nonce=nonce, disk_nonce=nonce)
    return Guest(server_id=server_id, state=state, boot_nonce=record.boot_nonce, disk_nonce=record.disk_nonce)


def _marked(server_id: str, mark: Mark) -> Guest:
    """A guest without a record; the nonces are those that it was started with."""
    boot, disk = mark.boot_nonce, mark.disk_nonce
    return Guest(server_id=server_id, state=GuestState.RUNNING, boot_nonce=boot, disk_nonce=disk)


def _image(server: ServerSpec, images: Mapping[str, CachedImage | MusterError]) -> CachedImage | MusterError | None:
    if server.image is None:
        return None
    # One that was prepared when the images were asked for, and is not any more.
    return images.get(server.image.id, Transient("the server was removed meanwhile"))

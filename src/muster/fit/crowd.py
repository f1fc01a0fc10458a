"""The guests of a run: as many as are asked for, each up and loaded, and how they answer.

Invariant: what `resize` made and could not bring up is deleted by the next `resize`, or by the run's sweep: also what a
request that was cut off has made, so that nothing is measured beside guests that nobody knows of.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from functools import partial
from random import Random

import msgspec

from muster.base.errors import Transient
from muster.client.api import Api
from muster.client.bodies import Server
from muster.client.listing import Listing
from muster.client.ssh import SshProbe
from muster.fit.find import Full
from muster.fit.guest import Guest, Recipe, remove_server
from muster.fit.observer import Observer, in_words
from muster.fit.options import FitOptions
from muster.fit.records import Answers

POLL_S = 1.0
# How long to look for servers whose POST was cut off: the cloud may still be at work on it.
QUIET_S = 3.0
# A cloud that has not answered for so long when time is up is away, and not full.
SILENT_S = 10.0
MOST_REQUESTS = 32

# What merging of equal pages saves on the hosts now, in MiB; None where nobody tells.
ReadSavings = Callable[[], float | None]


class _Boot(msgspec.Struct):
    """How far the guests that boot are, and when the cloud told of them last."""

    guests: int
    heard_s: float
    active: int = 0
    up: int = 0

    def told(self) -> str:
        """Where they stand, so that a network that hides guests is not taken for a host that is full."""
        return f"{self.active} of {self.guests} became ACTIVE, {self.up} could be logged into"


class Surroundings(msgspec.Struct, frozen=True):
    """What a crowd works with: the cloud, the names' prefix, who is told, the clock, the dice, who knows of savings."""

    api: Api
    prefix: str
    observer: Observer
    now: Callable[[], float]
    rng: Random
    savings: ReadSavings | None = None


class CloudCrowd:
    """A `find.Crowd` on a real cloud."""

    def __init__(self, around: Surroundings, recipe: Recipe) -> None:
        self._around, self._recipe = around, recipe
        self._guests: list[Guest] = []
        self._failed: list[Guest] = []
        self._made = 0
        self._requests = asyncio.Semaphore(MOST_REQUESTS)
        self._ssh = SshProbe(recipe.target, around.now)
        self._boot = _Boot(0, 0.0)

    async def resize(self, guests: int) -> None:
        """Add or remove guests until so many are up. Raises Full, and Transient when the cloud does not answer."""
        options = self._recipe.options
        unwanted, self._guests = self._failed + self._guests[guests:], self._guests[:guests]
        self._failed = unwanted
        if unwanted:
            await self._remove(unwanted)
        self._failed = []
        new = guests - len(self._guests)
        if new:
            await self._add(new)
        if options.settle_s and (new or unwanted):
            self._around.observer.says(f"up: {in_words(guests)}; letting them settle for {options.settle_s:g} s")
            await asyncio.sleep(options.settle_s)

    async def measure(self) -> Answers:
        """Probe all guests for a while, each at its own moments."""
        options, around = self._recipe.options, self._around
        around.observer.says(f"measuring for {options.measure_s:g} s")
        found: list[float | None] = []
        await _all(
            probe_regularly(guest.probe, options, around.rng.uniform(0, options.every_s), around.now, found)
            for guest in self._guests
        )
        savings = await asyncio.to_thread(around.savings) if around.savings is not None else None
        took_s = [options.probe_timeout_s if one is None else one for one in found]
        return Answers(round_trips_s=took_s, failed=found.count(None), saved_mib=savings)

    async def close(self) -> None:
        """End all sessions; the guests stay, for whoever sweeps."""
        await asyncio.gather(*(guest.disconnect() for guest in (*self._guests, *self._failed)), return_exceptions=True)

    # --- more guests

    async def _add(self, count: int) -> None:
        new = [self._guest() for _ in range(count)]
        self._failed = list(new)  # until it is known that they are up
        around = self._around
        around.observer.counts("booting", 0, count)
        self._boot = boot = _Boot(count, around.now())
        try:
            async with asyncio.timeout(self._recipe.options.boot_timeout_s):
                await _all(self._requested(guest.ask_for) for guest in new)
                await self._bring_up(new)
        except TimeoutError as error:
            silent_s = around.now() - boot.heard_s
            if silent_s > SILENT_S:  # which says nothing of what the hosts hold
                raise Transient(f"the cloud has not told of its servers for {silent_s:.0f} s") from error
            raise Full(f"not all up after {self._recipe.options.boot_timeout_s:g} s: {boot.told()}") from error
        self._guests += new
        self._failed = []

    def _guest(self) -> Guest:
        self._made += 1
        around = self._around
        return Guest(around.api, self._recipe, f"{around.prefix}{self._made:05d}", around.now)

    async def _bring_up(self, new: Sequence[Guest]) -> None:
        """Follow them by one listing per second until all are up. Raises Full as soon as one cannot be."""
        pending, boot = {guest.id: guest for guest in new}, self._boot
        listing = Listing(self._around.api, self._around.prefix)
        tasks: list[asyncio.Task[None]] = []
        try:
            while pending or not all(task.done() for task in tasks):
                for server in await self._changed(listing):
                    guest = pending.get(server.id)
                    if guest is not None and _is_up(server):
                        del pending[server.id]
                        boot.active += 1
                        tasks.append(asyncio.create_task(self._prepare(guest, server)))
                for task in tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(POLL_S)
        finally:
            await _ended(tasks)

    async def _changed(self, listing: Listing) -> Sequence[Server]:
        """What changed; nothing when the cloud does not answer just now."""
        with suppress(Transient):
            found = await listing.changed(self._around.now())
            self._boot.heard_s = self._around.now()
            return found
        return ()

    async def _prepare(self, guest: Guest, server: Server) -> None:
        await guest.prepare(server, self._ssh)
        self._boot.up += 1
        self._around.observer.counts("booting", self._boot.up, self._boot.guests)

    # --- fewer guests

    async def _remove(self, guests: Sequence[Guest]) -> None:
        """Delete them, and whatever else is no guest of ours; wait until they are gone. Raises Transient."""
        around = self._around
        around.observer.counts("deleting", 0, len(guests))
        await _all(self._requested(guest.remove) for guest in guests)
        listing = Listing(around.api, around.prefix)
        kept = {guest.id for guest in self._guests}
        asked = {guest.id for guest in guests}
        end_s = around.now() + self._recipe.options.boot_timeout_s
        quiet_until_s = around.now() + (QUIET_S if None in asked else 0.0)
        while (left := await _present(listing, around.now, end_s) - kept) or around.now() < quiet_until_s:
            if left and around.now() >= end_s:
                raise Transient(f"{len(left)} servers are still there {self._recipe.options.boot_timeout_s:g} s later")
            await _all(self._requested(partial(remove_server, around.api, one)) for one in left - asked)
            asked |= left
            around.observer.counts("deleting", max(0, len(guests) - len(left)), len(guests))
            await asyncio.sleep(POLL_S)
        around.observer.counts("deleting", len(guests), len(guests))

    async def _requested(self, work: Callable[[], Awaitable[None]]) -> None:
        async with self._requests:
            await work()


async def probe_regularly(
    probe: Callable[[], Awaitable[float | None]],
    options: FitOptions,
    first_s: float,
    now: Callable[[], float],
    found: list[float | None],
) -> None:
    """Probe a guest every `options.every_s` from `first_s` on; how long each probe took, None for one that failed.

    Moments that pass while the guest still owes an answer count as well, from then until that answer: a user would have
    waited too. Without them a guest that stands still would count once where each of the others counts thirty times.
    """
    end_s, due_s = now() + options.measure_s, now() + first_s
    while due_s < end_s:
        await asyncio.sleep(max(0.0, due_s - now()))
        took_s = await probe()
        found.append(took_s)
        answered_s = now()
        due_s += options.every_s
        while due_s < min(answered_s, end_s):
            found.append(None if took_s is None else answered_s - due_s)
            due_s += options.every_s


def _is_up(server: Server) -> bool:
    """Whether it is ACTIVE. Raises Full for one that will never be."""
    if server.status == "ERROR":
        raise Full("ERROR" + (f": {server.fault.message}" if server.fault else ""))
    return server.status == "ACTIVE"


async def _present(listing: Listing, now: Callable[[], float], end_s: float) -> set[str]:
    """Raises Transient when the cloud has not answered until `end_s`."""
    while True:
        try:
            return await listing.present()
        except Transient:
            if now() >= end_s:
                raise
        await asyncio.sleep(POLL_S)


async def _all(works: Iterable[Coroutine[object, object, None]]) -> None:
    """Do all of them side by side; the first failure ends the others and is raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _ended(tasks)


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

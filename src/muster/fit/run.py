"""One run of `muster fit`: look up, prepare, find, clean up, tell.

Invariant: what a run made it removes, also when it fails or is cancelled, and it says what it could not remove.
"""

import asyncio
import contextlib
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from random import Random

import msgspec

from muster.base.clock import system_clock
from muster.base.errors import MusterError, NotFound
from muster.base.tasks import to_its_end
from muster.base.units import iso
from muster.client.access import create_group, let_in, new_key, register_key, remove_group_named, remove_key
from muster.client.api import Api, Tally
from muster.client.cloud import Cloud, connect
from muster.client.http import HttpClient
from muster.client.listing import Listing
from muster.client.open_files import ensure_open_files
from muster.client.resolve import Ingredients, resolve
from muster.client.ssh import SshTarget, ensure_ssh
from muster.client.sweep import Sweep
from muster.fit.crowd import CloudCrowd, ReadSavings, Surroundings
from muster.fit.find import Found, find
from muster.fit.guest import Recipe, template
from muster.fit.hosts import room_on
from muster.fit.observer import Observer, SilentObserver
from muster.fit.options import FitOptions
from muster.fit.records import FitResult, Room, advise

# Of an ssh process three pipes each, and some for connections and the program itself.
FILES_PER_GUEST, SPARE_FILES = 4, 256
# How long to look for servers whose POST was cut off or never answered.
QUIET_S = 3.0


async def run_fit(
    options: FitOptions, observer: Observer | None = None, savings: ReadSavings | None = None
) -> FitResult:
    """Find how many guests `options` allows on the cloud that it names.

    Raises Invalid, NotFound, Unauthenticated, Forbidden, Conflict or Transient when it fails before anything was
    measured; later that is the result's `failure`. When cancelled, also during the clean-up, removes what was made,
    tells the observer what is left, and goes on as a cancellation; a second cancellation ends at once.
    """
    ensure_ssh()
    ensure_open_files(options.most * FILES_PER_GUEST + SPARE_FILES)
    cloud = await connect(options.cloud, options.config_files, time.monotonic)
    try:
        async with HttpClient(cloud.tls) as http:
            return await _Run(options, observer or SilentObserver(), cloud, Api(http, cloud, Tally())).whole(savings)
    finally:
        cloud.tokens.close()


class _Run:
    """One run: what it talks to, and what it has made."""

    def __init__(self, options: FitOptions, observer: Observer, cloud: Cloud, api: Api) -> None:
        self._options, self._observer, self._cloud, self._api = options, observer, cloud, api
        self._name = f"fit-{secrets.token_hex(4)}"
        self._leftovers: list[str] = []
        self._whole = False

    async def whole(self, savings: ReadSavings | None) -> FitResult:
        """The run from the look-ups to the result."""
        started_at, began_s = iso(system_clock()), time.monotonic()
        self._observer.says("looking up image, flavor, network and hosts")
        ingredients = await resolve(self._api, self._options.wanted)
        room = await room_on(self._api, self._options, ingredients.flavor_id)
        async with self._prepared(ingredients) as recipe:
            steps, search, failure = await self._find(recipe, room, savings)
        return FitResult(
            cloud=self._cloud.name,
            started_at=started_at,
            options=msgspec.structs.replace(self._options, user_data=None, script=None),
            room=room,
            steps=steps,
            advice=advise(search.best, room, steps, hit_most=search.hit_most, failed=failure is not None),
            failure=failure,
            leftovers=self._leftovers,
            duration_s=time.monotonic() - began_s,
        )

    async def _find(self, recipe: Recipe, room: Room, savings: ReadSavings | None) -> Found:
        dice = Random()  # noqa: S311 - the moments of probes
        around = Surroundings(self._api, f"{self._name}-", self._observer, time.monotonic, dice, savings)
        crowd = CloudCrowd(around, recipe)
        try:
            found = await find(crowd, room, self._options, self._observer)
            self._whole = found.failure is None and not any(step.reason for step in found.steps)
            return found
        finally:
            await crowd.close()

    @contextlib.asynccontextmanager
    async def _prepared(self, ingredients: Ingredients) -> AsyncIterator[Recipe]:
        """A key, a security group, and the end of everything that was made."""
        options, api, name = self._options, self._api, self._name
        directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=f"{name}-"))
        try:
            key_file, public = await asyncio.to_thread(new_key, directory)
            await register_key(api, name, public)
            group = ingredients.security_group_id
            if group is None:
                group = await create_group(api, name, "muster fit: ICMP and ssh")
                await let_in(api, group, options.ssh_port)
            ids = {
                "image": ingredients.image_id, "flavor": ingredients.flavor_id, "network": ingredients.network_id,
            }  # fmt: skip
            target = SshTarget(options.user, options.ssh_port, key_file)
            yield Recipe(template(options, ids, name, group), target, options)
        finally:
            await to_its_end(self._clean_up())
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    async def _clean_up(self) -> None:
        """By the names of what there may be: a request that was cut off may have made it."""
        self._observer.says("cleaning up")
        await self._attempt(f"servers {self._name}-*", self._sweep())
        if self._options.security_group is None:
            await self._attempt(f"security group {self._name}", remove_group_named(self._api, self._name))
        await self._attempt(f"key pair {self._name}", remove_key(self._api, self._name))
        self._observer.says("removed what could be" if self._leftovers else "removed everything")

    async def _sweep(self) -> None:
        listing = Listing(self._api, f"{self._name}-")
        left = await Sweep(self._api, listing, time.monotonic).run(
            quiet_s=0.0 if self._whole else QUIET_S, timeout_s=self._options.boot_timeout_s
        )
        for server_id, reason in left.items():
            self._left(f"server {server_id}: {reason}")

    async def _attempt(self, what: str, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except NotFound:
            pass
        except MusterError as error:
            self._left(f"{what}: {error.message}")

    def _left(self, text: str) -> None:
        self._leftovers.append(text)
        self._observer.left(text)

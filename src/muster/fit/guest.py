"""One guest of a run: made, reached, loaded, asked again and again how fast it answers."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from urllib.parse import quote

import msgspec

from muster.base.errors import MusterError, Transient, Unauthenticated
from muster.client.api import Api, Call
from muster.client.bodies import CreatedServer, Server, best_address
from muster.client.cloud import Service
from muster.client.ssh import SshProbe, SshTarget
from muster.fit.find import Full
from muster.fit.options import FitOptions
from muster.fit.session import Session, start_load

AGAIN_S = 1.0
LOGIN_S = 60.0


class Recipe(msgspec.Struct, frozen=True):
    """What all guests of a run are made with: the body of their POST without a name, and how to log in."""

    template: dict[str, object]
    target: SshTarget
    options: FitOptions


def template(options: FitOptions, ids: dict[str, str], key_name: str, group: str) -> dict[str, object]:
    """The POST's body without a name. `ids`: of image, flavor and network."""
    body: dict[str, object] = {
        "imageRef": ids["image"],
        "flavorRef": ids["flavor"],
        "networks": [{"uuid": ids["network"]}],
        "key_name": key_name,
        "security_groups": [{"name": group}],
    }
    if options.zone is not None:
        body["availability_zone"] = options.zone
    if options.user_data is not None:
        body["user_data"] = base64.b64encode(options.user_data).decode()
    return body


class Guest:
    """`ask_for` it; once a listing shows it, `prepare` it with its address; then `probe`."""

    def __init__(self, api: Api, recipe: Recipe, name: str, now: Callable[[], float]) -> None:
        self._api, self._recipe, self._now = api, recipe, now
        self._session: Session | None = None
        self.name = name
        self.id: str | None = None

    async def ask_for(self) -> None:
        """One POST. Raises Full when the cloud does not want to; Transient, Unauthenticated when it was not asked."""
        body = {"server": {**self._recipe.template, "name": self.name}}
        call = Call("POST servers", "POST", Service.COMPUTE, "/servers", body, ok=(202,))
        try:
            self.id = (await self._api.get(call, CreatedServer)).server.id
        except (Transient, Unauthenticated):  # says nothing of what the hosts hold
            raise
        except MusterError as error:
            raise Full(error.message) from error

    async def prepare(self, server: Server, ssh: SshProbe) -> None:
        """Wait for its ssh, start the load, open the session. Never ends by itself while the guest does not answer.

        Raises Full for one without an address.
        """
        address = best_address(server)
        if address is None:
            raise Full("the cloud gave a server no address")
        recipe = self._recipe
        await ssh.banner(address)
        await ssh.login(address)
        if recipe.options.script is not None:
            await _until_done(partial(start_load, recipe.target, address, recipe.options.script, LOGIN_S))
        self._session = Session(recipe.target, address, self._now)
        await _until_done(partial(self._session.open, LOGIN_S))

    async def probe(self) -> float | None:
        """The round trip of one probe, in seconds; None when it failed. A connection that broke is opened anew."""
        options, session = self._recipe.options, self._session
        if session is None:
            return None
        try:
            return await session.ask(options.probe, options.probe_timeout_s)
        except Transient:
            with suppress(Transient):
                await session.open(options.probe_timeout_s)
        return None

    async def remove(self) -> None:
        """Ask the cloud to delete it. Raises what `Api.send` raises, but for one that is gone."""
        await self.disconnect()
        if self.id is not None:
            await remove_server(self._api, self.id)

    async def disconnect(self) -> None:
        """End the session; the guest stays."""
        if self._session is not None:
            await self._session.close()


async def remove_server(api: Api, server_id: str) -> None:
    """Ask the cloud to delete a server. Raises what `Api.send` raises, but for one that is gone."""
    path = f"/servers/{quote(server_id, safe='')}"
    await api.send(Call("DELETE servers", "DELETE", Service.COMPUTE, path, ok=(202, 204, 404)))


async def _until_done(work: Callable[[], Awaitable[None]]) -> None:
    """Again and again until it is done; whoever waits sets the limit."""
    while True:
        with suppress(Transient):
            return await work()
        await asyncio.sleep(AGAIN_S)

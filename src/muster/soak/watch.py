"""What the cloud says of all servers of a soak, by one listing for all users; and servers that no user looks after.

Invariants: what a user waits for is judged by a listing that began after the wait did. A server that is listed and that
nobody owns (an interrupted soak's, one whose creation was never answered, one that did not go) is offered to the users
until it is gone: nothing that was made is forgotten.
"""

import asyncio
from collections.abc import Callable

import msgspec

from muster.base.errors import Invalid, MusterError, NotFound
from muster.client.bodies import Server
from muster.client.listing import Listing
from muster.client.pace import Pace
from muster.soak.presence import Presence

IDLE_S = 2.0
AWAY_S = 1.0
# A server that nobody could remove is offered again after so long.
AGAIN_S = 60.0
_SETTLED = frozenset({"ACTIVE", "SHUTOFF", "ERROR"})
_DELETED = frozenset({"DELETED", "SOFT_DELETED"})


class _Wait(msgspec.Struct, eq=False):
    """Until the server has the status, without a task; None: until it is gone."""

    server_id: str
    status: str | None
    since_s: float
    future: "asyncio.Future[Server | None]"


class Watcher:
    """`run` is to be a task; the rest is for the users."""

    def __init__(self, listing: Listing, presence: Presence, now: Callable[[], float]) -> None:
        self._listing = listing
        self._presence = presence
        self._now = now
        self._pace = Pace()
        self._waits: set[_Wait] = set()
        self._wanted = asyncio.Event()
        self._owned: set[str] = set()
        self._expected: set[str] = set()
        self._offered_s: dict[str, float] = {}
        self.servers: dict[str, Server] = {}
        self.has_listed = False

    # --- for users

    def expect(self, name: str) -> None:
        """A server of this name is being asked for: it is no stray."""
        self._expected.add(name)

    def own(self, name: str, server_id: str | None) -> None:
        """The server of this name was made with that id, and somebody looks after it; None: it was not answered."""
        self._expected.discard(name)
        if server_id is not None:
            self._owned.add(server_id)

    def release(self, server_id: str) -> None:
        """Nobody looks after the server any more."""
        self._owned.discard(server_id)
        self._offered_s[server_id] = self._now()

    def stray(self) -> Server | None:
        """A server without an owner, which the caller owns from now on."""
        now_s = self._now()
        for server in self.servers.values():
            is_due = now_s - self._offered_s.get(server.id, float("-inf")) >= AGAIN_S
            if is_due and server.id not in self._owned and server.name not in self._expected:
                self._owned.add(server.id)
                return server
        return None

    async def until(self, server_id: str, status: str) -> Server:
        """Wait until the server has the status and no task.

        Raises Invalid when it settles in another one, NotFound when it is not there any more.
        """
        server = await self._wait(server_id, status)
        assert server is not None  # noqa: S101 - only a wait for the end gives None
        return server

    async def gone(self, server_id: str) -> None:
        """Wait until the server is not listed any more."""
        await self._wait(server_id, None)

    async def _wait(self, server_id: str, status: str | None) -> Server | None:
        wait = _Wait(server_id, status, self._now(), asyncio.get_running_loop().create_future())
        self._waits.add(wait)
        self._pace.reset()
        self._wanted.set()
        try:
            return await wait.future
        finally:
            self._waits.discard(wait)

    # --- the listings

    async def run(self) -> None:
        """List for ever. Cost: a listing per 0.1 s to 1 s while somebody waits, else per 2 s."""
        while True:
            began_s = self._now()
            self._wanted.clear()
            try:
                servers = await self._listing.whole()
            except MusterError as error:
                self._presence.failed(began_s, error.message)
                await asyncio.sleep(AWAY_S)
                continue
            self._presence.answered()
            changed = self._see({server.id: server for server in servers}, began_s)
            await self._pause(self._pace.gap_s(self._now() - began_s, changed=changed))

    async def _pause(self, gap_s: float) -> None:
        await asyncio.sleep(gap_s)
        if not self._waits:
            try:
                async with asyncio.timeout(IDLE_S):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    def _see(self, servers: dict[str, Server], began_s: float) -> bool:
        self.servers, self.has_listed = servers, True
        self._offered_s = {one: at_s for one, at_s in self._offered_s.items() if one in servers}
        due = [wait for wait in self._waits if wait.since_s <= began_s and not wait.future.done()]
        return any([_judge(wait, servers.get(wait.server_id)) for wait in due])  # noqa: C419 - all of them


def _judge(wait: _Wait, server: Server | None) -> bool:
    """Whether the wait is over."""
    is_there = server is not None and server.status not in _DELETED
    if wait.status is None:
        if not is_there:
            wait.future.set_result(None)
        return not is_there
    if server is None or not is_there:
        wait.future.set_exception(NotFound("the server is gone, and nobody asked for that"))
    elif server.task_state is not None or server.status not in _SETTLED:
        return False
    elif server.status == wait.status:
        wait.future.set_result(server)
    else:
        why = f": {server.fault.message}" if server.fault else ""
        wait.future.set_exception(Invalid(f"{server.status} instead of {wait.status}{why}"))
    return True

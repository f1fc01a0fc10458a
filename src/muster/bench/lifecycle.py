"""The life of one server in a run: created, reached by ping and ssh, deleted; each step's moment noted in its record.

Invariants: no request is sent twice. A server's failure ends its own life alone: the others go on, and it is deleted
with them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import msgspec

from muster.base.errors import Invalid, MusterError
from muster.bench.observer import Observer
from muster.bench.options import Phase, ServersOptions
from muster.bench.records import ServerRecord
from muster.bench.watch import Sighting, Watcher
from muster.client.api import Api, Call
from muster.client.bodies import CreatedServer, Server, best_address
from muster.client.cloud import Service
from muster.client.ping import Pinger
from muster.client.ssh import SshProbe


class Probes(msgspec.Struct, frozen=True):
    """How servers are watched and reached."""

    watcher: Watcher
    pinger: Pinger
    ssh: SshProbe


class Lifecycle:
    """Brings servers up, one `live` per server or one `live_as_batch` for all, and down again with `remove`."""

    def __init__(
        self,
        api: Api,
        options: ServersOptions,
        template: dict[str, object],
        probes: Probes,
        observer: Observer,
        now: Callable[[], float],
    ) -> None:
        self._api = api
        self._options = options
        self._template = template
        self._probes = probes
        self._observer = observer
        self._now = now
        self._in_flight = asyncio.Semaphore(options.concurrency or options.count)
        self._not_ready = asyncio.Semaphore(options.max_alive or options.count)

    async def live(self, record: ServerRecord) -> None:
        """Create one server with a POST of its own and follow it until it is ready, has failed or, rolling, is gone."""
        if self._options.rate_per_s is not None:
            await asyncio.sleep(max(0.0, record.index / self._options.rate_per_s - self._now()))
        async with self._not_ready:
            async with self._in_flight:
                accepted = await self._step(Phase.CREATE, record, self._request(record))
            if accepted:
                await self._follow(record)
                if self._options.rolling:
                    await self.remove(record)

    async def live_as_batch(self, records: list[ServerRecord], prefix: str) -> None:
        """Create all servers with one POST and follow them. Which server is which is learnt from the first listings."""
        began_s = self._now()
        for record in records:
            record.requested_at_s = began_s
        try:
            async with asyncio.timeout(self._options.timeout_s):
                await self._post(prefix.rstrip("-"), {"min_count": len(records), "max_count": len(records)})
                for record in records:
                    record.accepted_at_s = self._now()
                found = await self._probes.watcher.census(len(records))
        except (MusterError, TimeoutError) as error:
            self._fail_all(records, self._reason(error))
            return
        for record, (server_id, name) in zip(records, sorted(found.items(), key=_by_number), strict=False):
            record.id, record.name = server_id, name
        async with asyncio.TaskGroup() as group:
            for record in records:
                group.create_task(self._follow(record))

    async def remove(self, record: ServerRecord) -> None:
        """Delete the server and wait until it is gone."""
        async with self._in_flight:
            accepted = await self._step(Phase.DELETE, record, self._request_deletion(record))
        if accepted:
            await self._phase(Phase.DELETE, record, self._leave(record))

    # --- creation

    async def _follow(self, record: ServerRecord) -> None:
        if await self._phase(Phase.CREATE, record, self._become_active(record)):
            await self._reach(record)

    async def _request(self, record: ServerRecord) -> None:
        record.requested_at_s = self._now()
        record.id = (await self._post(record.name, {})).id
        record.accepted_at_s = self._now()

    async def _post(self, name: str, counts: dict[str, int]) -> Server:
        body = {"server": {**self._template, "name": name, **counts}}
        timeout_s = self._options.timeout_s
        call = Call("POST servers", "POST", Service.COMPUTE, "/servers", body, ok=(202,), timeout_s=timeout_s)
        return (await self._api.get(call, CreatedServer)).server

    async def _become_active(self, record: ServerRecord) -> None:
        if record.id is None:
            raise Invalid("the cloud did not list this server")
        sighting = await self._probes.watcher.settled(record.id)
        record.created, record.updated = sighting.server.created, sighting.server.updated
        record.launched_at = sighting.server.launched_at
        record.address = best_address(sighting.server)
        if sighting.server.status != "ACTIVE":
            raise Invalid(_fault_of(sighting))
        record.active_at_s = max(sighting.at_s, record.accepted_at_s or 0.0)

    # --- ping and ssh

    async def _reach(self, record: ServerRecord) -> None:
        options = self._options
        if options.wants(Phase.PING) and not await self._phase(Phase.PING, record, self._ping(record)):
            return
        if options.wants(Phase.SSH) and not await self._phase(Phase.SSH, record, self._ssh(record)):
            return
        record.ready_at_s = self._now()

    async def _ping(self, record: ServerRecord) -> None:
        record.pinged_at_s = await self._probes.pinger.first_reply(_address(record))

    async def _ssh(self, record: ServerRecord) -> None:
        record.banner_at_s = await self._probes.ssh.banner(_address(record))
        if self._options.login:
            record.login_at_s = await self._probes.ssh.login(_address(record))

    # --- deletion

    async def _request_deletion(self, record: ServerRecord) -> None:
        record.delete_requested_at_s = self._now()
        path = f"/servers/{quote(str(record.id), safe='')}"
        timeout_s = self._options.timeout_s
        await self._api.send(
            Call("DELETE servers", "DELETE", Service.COMPUTE, path, ok=(202, 204), timeout_s=timeout_s)
        )
        record.delete_accepted_at_s = self._now()

    async def _leave(self, record: ServerRecord) -> None:
        record.gone_at_s = await self._probes.watcher.gone(str(record.id))

    # --- failures

    async def _phase(self, phase: Phase, record: ServerRecord, work: Awaitable[None]) -> bool:
        """Do a phase, or its last step; whether it went well."""
        well = await self._step(phase, record, work)
        if well:
            self._observer.passed(phase)
        return well

    async def _step(self, phase: Phase, record: ServerRecord, work: Awaitable[None]) -> bool:
        """Do one step within its time; a failure is noted, not raised."""
        try:
            async with asyncio.timeout(self._options.timeout_s):
                await work
        except (MusterError, TimeoutError) as error:
            record.fail(phase, self._reason(error), self._now())
            self._observer.failed(phase, self._reason(error))
            return False
        return True

    def _reason(self, error: MusterError | TimeoutError) -> str:
        return error.message if isinstance(error, MusterError) else f"not done after {self._options.timeout_s:g} s"

    def _fail_all(self, records: list[ServerRecord], reason: str) -> None:
        for record in records:
            record.fail(Phase.CREATE, reason, self._now())
            self._observer.failed(Phase.CREATE, reason)


def _address(record: ServerRecord) -> str:
    if record.address is None:
        raise Invalid("the cloud gave the server no address")
    return record.address


def _fault_of(sighting: Sighting) -> str:
    server = sighting.server
    return server.status + (f": {server.fault.message}" if server.fault else "")


def _by_number(item: tuple[str, str]) -> tuple[int, str]:
    """Servers of a batch in the order of the numbers that the cloud put behind their name."""
    digits = item[1].rpartition("-")[2]
    return (int(digits) if digits.isdecimal() else 0, item[1])

"""PostgreSQL is restarted in the middle of creations and deletions: users wait, and see nothing else of it."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import func, select

from muster.cli.cloud import Cloud, CloudSettings, running
from muster.store.outbox import outbox
from muster.store.servers import servers
from tests.audit import http, ledger
from tests.audit.postgresql import copied
from tests.conformance.cluster.test_two_workers import hosts_there
from tests.engines.postgres import PATIENT, Postgres
from tests.serving import serving

SERVERS = int(os.environ.get("MUSTER_RESTART_SERVERS", "200"))
HOSTS = 25
RESTARTS = 3 * SERVERS // 200
PASSWORD = "a-password-for-tests"
HANG_S = 300.0 + SERVERS * 0.2


class User:
    """Asks over HTTP, each request once, whatever the answer."""

    def __init__(self, base_url: str, token: str) -> None:
        self.base_url = base_url
        self.token = token
        self.image_id = self.network_id = ""
        self.waits: list[float] = []

    async def prepare(self) -> None:
        body = {"name": "tiny", "disk_format": "raw", "container_format": "bare"}
        self.image_id = (await self.ask("POST", "/image/v2/images", body)).body["id"]
        await self.ask("PUT", f"/image/v2/images/{self.image_id}/file", b"\0" * 1024)
        networks = await self.ask("GET", "/network/v2.0/networks?name=default")
        self.network_id = networks.body["networks"][0]["id"]

    async def create(self, name: str) -> str:
        networks = [{"uuid": self.network_id}]
        body = {"server": {"name": name, "imageRef": self.image_id, "flavorRef": "1", "networks": networks}}
        return (await self.ask("POST", "/compute/v2.1/servers", body)).body["server"]["id"]

    async def delete(self, server_id: str) -> None:
        await self.ask("DELETE", f"/compute/v2.1/servers/{server_id}")

    async def ask(self, method: str, path: str, body: object = None) -> http.Answer:
        began = time.monotonic()
        answer = await http.ask(self.base_url, method, path, body, token=self.token)
        self.waits.append(time.monotonic() - began)
        assert answer.status in (200, 201, 202, 204), answer
        return answer


class Restarts:
    """PostgreSQL, ended and started again in every way, some times or until `end`."""

    def __init__(self, server: Postgres, rng: Random) -> None:
        self._server = server
        self._rng = rng
        self._stops = False
        self.count = 0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self.count < RESTARTS and not self._stops:
            await asyncio.sleep(self._rng.uniform(0.1, 0.6))
            how = (signal.SIGQUIT, signal.SIGKILL, signal.SIGINT)[self.count % 3]
            await asyncio.to_thread(self._server.end, how)
            await asyncio.sleep(self._rng.uniform(0.0, 0.5))
            await asyncio.to_thread(self._server.launch)
            self.count += 1

    async def end(self) -> None:
        self._stops = True
        await self._task


@asynccontextmanager
async def a_cloud(database_url: str, folder: Path) -> AsyncIterator[Cloud]:
    async with running(CloudSettings(folder=folder, sim_hosts=HOSTS, database_url=database_url), PASSWORD) as cloud:
        await hosts_there(cloud, HOSTS)
        yield cloud


async def test_users_wait_and_see_no_error(
    postgres: Postgres, tmp_path: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    rng = Random(3)
    database_url = await postgres.create_database()
    async with (
        a_cloud(f"{database_url}&{PATIENT}", tmp_path) as cloud,
        serving(cloud.application) as url,
        asyncio.timeout(HANG_S),
    ):
        user = User(url, await http.log_in(url, PASSWORD))
        await user.prepare()

        async def soon(work: Coroutine[Any, Any, Any]) -> Any:
            await asyncio.sleep(rng.uniform(0.0, SERVERS / 70))
            return await work

        restarts = Restarts(postgres, rng)
        made = await asyncio.gather(*(soon(user.create(f"vm-{index}")) for index in range(SERVERS)))
        await restarts.end()
        in_creation = restarts.count
        await at_rest(cloud)
        assert ledger.audit(await copied(database_url, tmp_path / "copy.db")) == []
        found = await http.servers(url, user.token)
        assert Counter(server["status"] for server in found) == {"ACTIVE": SERVERS}
        assert {server["id"]: server["name"] for server in found} == {
            server_id: f"vm-{index}" for index, server_id in enumerate(made)
        }
        restarts = Restarts(postgres, rng)
        lists = (soon(http.servers(url, user.token)) for _ in range(20))  # in the middle of reading as well
        await asyncio.gather(*lists, *(soon(user.delete(server_id)) for server_id in made))
        await restarts.end()
        await at_rest(cloud)
        assert ledger.audit(await copied(database_url, tmp_path / "copy.db")) == []
        assert await http.servers(url, user.token) == []
    record_testsuite_property("postgresql_restarts", [in_creation, restarts.count])
    record_testsuite_property("longest_wait_s", round(max(user.waits), 1))


async def at_rest(cloud: Cloud) -> None:
    """Wait until no server is on its way and nothing is to be told to hosts."""
    under_way = select(func.count()).where(servers.c.task_state.is_not(None), servers.c.deleted_at.is_(None))
    untold = select(func.count()).select_from(outbox)
    while True:
        async with cloud.database.read() as connection:
            if not any([(await connection.execute(query)).scalar_one() for query in (under_way, untold)]):
                return
        await asyncio.sleep(0.1)

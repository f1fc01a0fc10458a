"""A whole cloud with two simulated hosts, whose compute API is driven in process; tokens name their caller."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import func, insert, select

from muster.api.compute.application import application
from muster.base.errors import Unauthenticated
from muster.base.ids import new_uuid
from muster.cli.cloud import DATABASE, CloudSettings, running
from muster.cli.control_plane import Cloud
from muster.domain.context import Context
from muster.domain.quotas import COMPUTE_DEFAULTS, NETWORK_DEFAULTS
from muster.services.quotas import Quotas
from muster.store.hosts import hosts
from muster.store.images import images
from muster.store.networks import networks
from muster.store.projects import projects
from tests.databases import place_database

DEADLINE_S = 300.0
P1, P2 = "a" * 32, "b" * 32


class FakeAuthenticator:
    """`role@project/user` is the token of that user with that role in that project."""

    def context(self, token: str) -> Context:
        role, at, rest = token.partition("@")
        if not at:
            raise Unauthenticated("The request you have made requires authentication.")
        project_id, _, user_id = rest.partition("/")
        return Context(user_id=user_id, project_id=project_id or None, roles=frozenset({role}))


class Client:
    """Speaks to the API as one caller, in one microversion unless told otherwise."""

    def __init__(self, http: httpx.AsyncClient, token: str) -> None:
        self.http = http
        self.token = token

    async def call(self, method: str, path: str, body: Any = None, *, v: str | None = None) -> httpx.Response:
        headers = {"X-Auth-Token": self.token} if self.token else {}
        if v is not None:
            headers["OpenStack-API-Version"] = f"compute {v}"
        url = f"/v2.1{path}"
        if isinstance(body, bytes):
            return await self.http.request(method, url, content=body, headers=headers)
        return await self.http.request(method, url, json=body, headers=headers)

    async def ask(self, method: str, path: str, body: Any = None, *, v: str | None = None, status: int = 200) -> Any:
        """The answer's JSON, once its status was checked."""
        response = await self.call(method, path, body, v=v)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    async def get(self, path: str, *, v: str | None = None, status: int = 200) -> Any:
        return await self.ask("GET", path, v=v, status=status)

    async def post(self, path: str, body: Any, *, v: str | None = None, status: int = 200) -> Any:
        return await self.ask("POST", path, body, v=v, status=status)

    async def put(self, path: str, body: Any, *, v: str | None = None, status: int = 200) -> Any:
        return await self.ask("PUT", path, body, v=v, status=status)

    async def delete(self, path: str, *, v: str | None = None, status: int = 202) -> Any:
        return await self.ask("DELETE", path, v=v, status=status)

    async def refusal(self, method: str, path: str, body: Any = None, *, v: str | None = None) -> tuple[int, str, str]:
        """Status, name and message of an error in Nova's body."""
        response = await self.call(method, path, body, v=v)
        [(name, fault)] = response.json().items()
        assert fault["code"] == response.status_code
        return response.status_code, name, fault["message"]


class Bed:
    """The cloud, and what tests do to it beside the API."""

    def __init__(self, cloud: Cloud, http: httpx.AsyncClient) -> None:
        self.cloud = cloud
        self.database = cloud.database
        self.quotas = Quotas({**COMPUTE_DEFAULTS, **NETWORK_DEFAULTS})
        self._http = http
        self._image_id = ""

    def client(self, token: str) -> Client:
        return Client(self._http, token)

    async def image(self) -> str:
        """The id of an image that servers can be made of."""
        if not self._image_id:
            self._image_id = new_uuid()
            now = time.time()
            row = {
                "id": self._image_id,
                "name": "image",
                "owner": P1,
                "status": "active",
                "visibility": "public",
                "disk_format": "raw",
                "size": 512,
                "os_hash_algo": "sha512",
                "os_hash_value": "0" * 128,
                "created_at": now,
                "updated_at": now,
            }
            async with self.database.write() as connection:
                await connection.execute(insert(images), [row])
        return self._image_id

    async def usage(self, project_id: str, resource: str) -> int:
        """How much of it the project has in use."""
        async with self.database.read() as connection:
            return (await self.quotas.in_use(connection, project_id)).get(resource, 0)

    async def network(self) -> str:
        """The id of the network that every fresh cloud has."""
        async with self.database.read() as connection:
            return str((await connection.execute(select(networks.c.id).where(networks.c.name == "default"))).scalar())

    async def server_body(self, name: str = "vm", *, hints: Any = None, **fields: Any) -> dict[str, Any]:
        """The body of `POST /servers`."""
        nics = [{"uuid": await self.network()}]  # 'auto' came with 2.37
        server = {"name": name, "flavorRef": "guest.tiny", "imageRef": await self.image(), "networks": nics, **fields}
        return {"server": server} | ({} if hints is None else {"os:scheduler_hints": hints})

    async def settled(self, client: Client, server_id: str) -> dict[str, Any]:
        """A server once it is no longer being built."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            server = (await client.get(f"/servers/{server_id}", v="2.90"))["server"]
            if server["status"] != "BUILD":
                return server
            await asyncio.sleep(0.02)
        raise AssertionError(f"still being built: {server}")

    async def gone(self, client: Client, server_id: str) -> None:
        """Delete a server and wait until it is gone."""
        await client.delete(f"/servers/{server_id}", status=204)
        end = time.monotonic() + DEADLINE_S
        while (await client.call("GET", f"/servers/{server_id}")).status_code != 404:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)


SIM_HOSTS = 2


async def _prepare(cloud: Cloud) -> None:
    rows = [{"id": name, "name": name, "domain_id": "default", "parent_id": "default"} for name in (P1, P2)]
    async with cloud.database.write() as connection:
        await connection.execute(insert(projects), rows)
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        async with cloud.database.read() as connection:
            if (await connection.execute(select(func.count()).select_from(hosts))).scalar_one() == SIM_HOSTS:
                return
        await asyncio.sleep(0.01)
    raise AssertionError("the hosts did not appear")


@asynccontextmanager
async def a_bed(folder: Path) -> AsyncIterator[Bed]:
    place_database(folder / DATABASE)
    async with running(CloudSettings(folder=folder, sim_hosts=SIM_HOSTS), "a-password-for-tests") as cloud:
        await _prepare(cloud)
        app = application(cloud.compute, FakeAuthenticator())
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://cloud", timeout=60) as http:
            yield Bed(cloud, http)


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    async with a_bed(tmp_path) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_bed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bed]:
    """One for all tests of a module that change nothing."""
    async with a_bed(tmp_path_factory.mktemp("cloud")) as one:
        yield one


@pytest.fixture
def member(bed: Bed) -> Client:
    return bed.client(f"member@{P1}/alice")


@pytest.fixture
def other(bed: Bed) -> Client:
    return bed.client(f"member@{P2}/bob")


@pytest.fixture
def reader(bed: Bed) -> Client:
    return bed.client(f"reader@{P1}/carol")


@pytest.fixture
def admin(bed: Bed) -> Client:
    return bed.client("admin@" + "c" * 32 + "/root")

"""A network API over a fresh SQLite database, in process; tokens name their caller (`member@p1`)."""

from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import httpx
import pytest

import muster.store.addresses
import muster.store.flavors
import muster.store.images
import muster.store.outbox
import muster.store.server_groups  # noqa: F401 - create_all needs all tables
from muster.api.http.application import Application
from muster.api.network.application import application
from muster.api.network.services import assemble, assemble_batch
from muster.base.clock import system_clock
from muster.base.errors import Unauthenticated
from muster.domain.context import Context
from muster.domain.group_members import member_changes
from muster.domain.networks import NetworkSettings
from muster.domain.quotas import NETWORK_DEFAULTS, UNLIMITED
from muster.locks.tooz import ToozLocks
from muster.services.outbox import Outbox, Telling
from muster.services.quotas import Quotas
from muster.store.engine import Connection, Database
from tests.databases import make_tables


class FakeAuthenticator:
    """`role@project` is a token of a user with that role in that project; `admin@p` is an admin."""

    def context(self, token: str) -> Context:
        role, at, project_id = token.partition("@")
        if not at:
            raise Unauthenticated("The request you have made requires authentication.")
        return Context(user_id=f"u-{project_id}", project_id=project_id or None, roles=frozenset({role}))


class Client:
    """Speaks to the API as one caller; each method returns (status, body)."""

    def __init__(self, http: httpx.AsyncClient, token: str) -> None:
        self.http = http
        self.token = token

    async def call(self, method: str, path: str, body: object = None) -> httpx.Response:
        headers = {"X-Auth-Token": self.token} if self.token else {}
        if isinstance(body, bytes):
            return await self.http.request(method, path, content=body, headers=headers)
        return await self.http.request(method, path, json=body, headers=headers)

    async def get(self, path: str, status: int = 200):
        return await self._checked("GET", path, None, status)

    async def post(self, path: str, body: object, status: int = 201):
        return await self._checked("POST", path, body, status)

    async def put(self, path: str, body: object = None, status: int = 200):
        return await self._checked("PUT", path, body, status)

    async def delete(self, path: str, status: int = 204):
        return await self._checked("DELETE", path, None, status)

    async def _checked(self, method: str, path: str, body: object, status: int):
        response = await self.call(method, path, body)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    async def network(self, **fields: object):
        return (await self.post("/v2.0/networks", {"network": fields}))["network"]

    async def subnet(self, network: dict, cidr: str = "10.0.0.0/24", **fields: object):
        version = 6 if ":" in cidr else 4
        body = {"network_id": network["id"], "cidr": cidr, "ip_version": version, **fields}
        return (await self.post("/v2.0/subnets", {"subnet": body}))["subnet"]

    async def port(self, network: dict, **fields: object):
        return (await self.post("/v2.0/ports", {"port": {"network_id": network["id"], **fields}}))["port"]


class RecordingTelling(Telling):
    """Remembers in `heard` of what hosts were to hear: (kind, ids)."""

    def __init__(self, connection: Connection, heard: list[tuple[str, frozenset[str]]]) -> None:
        super().__init__(connection, system_clock)
        self._heard = heard

    async def servers_changed(self, server_ids) -> None:
        self._remember("server", server_ids)
        await super().servers_changed(server_ids)

    async def networks_changed(self, network_ids) -> None:
        self._remember("network", network_ids)
        await super().networks_changed(network_ids)

    async def groups_changed(self, group_ids) -> None:
        self._remember("group", group_ids)
        await super().groups_changed(group_ids)

    async def members_changed(self, before, after) -> None:
        self._remember("members", member_changes(before, after))
        await super().members_changed(before, after)

    def _remember(self, kind: str, ids) -> None:
        if ids:
            self._heard.append((kind, frozenset(ids)))


class RecordingOutbox(Outbox):
    """An outbox that remembers of what hosts were to hear."""

    def __init__(self) -> None:
        super().__init__(system_clock)
        self._heard: list[tuple[str, frozenset[str]]] = []

    def begin(self, connection: Connection) -> Telling:
        return RecordingTelling(connection, self._heard)

    def taken(self) -> set[tuple[str, frozenset[str]]]:
        """What was heard since the last call."""
        heard = set(self._heard)
        self._heard.clear()
        return heard


class Cloud:
    """The application with the parts that tests look into."""

    def __init__(self, database: Database, app: Application, http: httpx.AsyncClient, outbox: RecordingOutbox) -> None:
        self.database = database
        self.app = app
        self.http = http
        self.outbox = outbox

    def client(self, token: str) -> Client:
        return Client(self.http, token)


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    database = Database(f"sqlite:///{tmp_path}/network.db")
    await make_tables(database)
    locks = ToozLocks(f"file://{tmp_path}/locks", "test", tmp_path / "tokens")
    await locks.start()
    quotas = Quotas(dict.fromkeys(NETWORK_DEFAULTS, UNLIMITED))
    outbox = RecordingOutbox()
    batch, groups = assemble_batch(database, locks, quotas, outbox, rng=Random(1))
    services = assemble(database, batch, groups, NetworkSettings(physical_networks=("physnet1",)))
    app = application(services, FakeAuthenticator())
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://cloud", timeout=60) as http:
        yield Cloud(database, app, http, outbox)
    await locks.close()
    await database.close()


@pytest.fixture
def member(cloud: Cloud) -> Client:
    return cloud.client("member@p1")


@pytest.fixture
def other(cloud: Cloud) -> Client:
    return cloud.client("member@p2")


@pytest.fixture
def admin(cloud: Cloud) -> Client:
    return cloud.client("admin@adm")

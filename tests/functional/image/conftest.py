"""An image API over a fresh SQLite database and an empty image folder, in process; tokens name their caller."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from muster.api.http.application import Application
from muster.api.image.application import application, assemble
from muster.api.image.routes import Services
from muster.base.errors import Unauthenticated
from muster.domain.context import Context
from muster.domain.images import ImageSettings
from muster.services.image_files import ImageFiles
from muster.store.engine import Database
from tests.databases import make_tables

PATCH = "application/openstack-images-v2.1-json-patch"
OCTETS = "application/octet-stream"
SETTINGS = ImageSettings(
    size_limit=3_000_000,
    virtual_size_limit=1 << 40,
    project_size_limit=5_000_000,
    property_limit=5,
    tag_limit=4,
    member_limit=2,
)


class FakeAuthenticator:
    """`role@project` is a token of a user with that role in that project; `admin@p` is an admin."""

    def context(self, token: str) -> Context:
        role, at, project_id = token.partition("@")
        if not at:
            raise Unauthenticated("The request you have made requires authentication.")
        return Context(user_id=f"u-{project_id}", project_id=project_id or None, roles=frozenset({role}))


class TestClock:
    """A clock that tests turn."""

    __test__ = False

    def __init__(self) -> None:
        self.now_s = 1_800_000_000.25

    def __call__(self) -> float:
        return self.now_s


class Client:
    """Speaks to the API as one caller."""

    def __init__(self, http: httpx.AsyncClient, token: str) -> None:
        self.http = http
        self.token = token

    async def call(self, method: str, path: str, **more: object) -> httpx.Response:
        headers = {"Accept": "application/json"} | ({"X-Auth-Token": self.token} if self.token else {})
        headers |= more.pop("headers", {})  # type: ignore[operator]
        return await self.http.request(method, path, headers=headers, **more)

    async def get(self, path: str, status: int = 200):
        return await self._checked("GET", path, status)

    async def post(self, path: str, body: object = None, status: int = 201):
        return await self._checked("POST", path, status, json=body)

    async def put(self, path: str, body: object = None, status: int = 200):
        return await self._checked("PUT", path, status, json=body)

    async def delete(self, path: str, status: int = 204):
        return await self._checked("DELETE", path, status)

    async def image(self, **fields: object):
        body = {"disk_format": "raw", "container_format": "bare", "name": "i", **fields}
        return await self.post("/v2/images", body)

    async def patch(self, image: dict, *changes: dict, status: int = 200, kind: str = PATCH):
        path = f"/v2/images/{image['id']}"
        return await self._checked("PATCH", path, status, json=list(changes), headers={"Content-Type": kind})

    async def upload(self, image: dict, content: object, status: int = 204, **headers: str):
        path = f"/v2/images/{image['id']}/file"
        headers = {"Content-Type": OCTETS} | {name.replace("_", "-"): value for name, value in headers.items()}
        return await self._checked("PUT", path, status, content=content, headers=headers)

    async def names(self, query: str = "") -> list[str]:
        return [image["name"] for image in (await self.get(f"/v2/images{query}"))["images"]]

    async def status(self, image: dict) -> str:
        return (await self.get(f"/v2/images/{image['id']}"))["status"]

    async def _checked(self, method: str, path: str, status: int, **more: object):
        response = await self.call(method, path, **more)
        assert response.status_code == status, f"{method} {path}: {response.status_code} {response.text}"
        if status >= 400:
            body = response.json()
            assert body["code"].startswith(str(status))
            assert set(body) == {"message", "code", "title"}
        return response.json() if response.content else None


class Cloud:
    """The application with the parts that tests look into."""

    def __init__(
        self, database: Database, folder: Path, clock: TestClock, services: Services, http: httpx.AsyncClient
    ) -> None:
        self.database = database
        self.folder = folder
        self.files = ImageFiles(folder)
        self.clock = clock
        self.services = services
        self.app: Application = application(services, FakeAuthenticator())
        self.http = http

    def client(self, token: str) -> Client:
        return Client(self.http, token)

    def kept(self) -> list[str]:
        """The names in the image folder."""
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Cloud]:
    database = Database(f"sqlite:///{tmp_path}/image.db")
    await make_tables(database)
    clock, folder = TestClock(), tmp_path / "images"
    services = assemble(database, clock, ImageFiles(folder), SETTINGS)
    app = application(services, FakeAuthenticator())
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://cloud", timeout=60) as http:
        yield Cloud(database, folder, clock, services, http)
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

"""A small cloud with nothing but identity, and a client that speaks to it in short sentences."""

import time
from pathlib import Path
from typing import Any

import httpx

from muster.api.http.mounts import Mounts
from muster.api.identity.application import application, assemble
from muster.services.cluster_secret import ClusterSecret
from muster.services.identity_bootstrap import BootstrapIds, bootstrap
from muster.services.passwords import Passwords, PasswordSettings
from muster.services.revocations import Revocations
from muster.services.token_authority import TokenAuthority
from muster.services.token_keys import TokenKeys
from muster.store.engine import Database
from muster.store.tables import metadata  # noqa: F401 - create_all makes the tables of all modules imported
from tests.databases import make_tables

SECRET = ClusterSecret("a secret that all processes of a cloud know")
ADMIN_PASSWORD = "an admin's password"
CHEAP = PasswordSettings(time_cost=1, memory_kib=8, threads=1)


class World:
    """One process of the control plane; several may share a directory, and with it database and keys."""

    def __init__(self, directory: Path) -> None:
        self.offset_s = 0.0  # added to the clock, which stands still: however slow a test is, no time passes in it
        self._began = time.time()
        self.directory = directory
        self.db = Database(f"sqlite:///{directory}/identity.db")
        self.passwords = Passwords(CHEAP)
        self.keys = TokenKeys(self.db, SECRET, self.clock)
        self.ids: BootstrapIds
        self.http: httpx.AsyncClient

    def clock(self) -> float:
        return self._began + self.offset_s

    async def start(self) -> None:
        await make_tables(self.db)
        await self.keys.prepare()
        self.ids = await bootstrap(self.db, admin_password=ADMIN_PASSWORD, passwords=self.passwords, clock=self.clock)
        self.revocations = Revocations(self.db, self.clock, token_lifetime_s=3600)
        await self.revocations.refresh()
        self.authority = TokenAuthority(self.keys.ring, self.revocations, self.clock)
        self.services = assemble(self.db, self.authority, self.revocations, self.passwords, self.clock)
        self.application = application(self.services, self.authority)
        transport = httpx.ASGITransport(app=Mounts({"/identity": self.application}))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://cloud:8774")

    async def stop(self) -> None:
        await self.http.aclose()
        self.passwords.close()
        await self.db.close()

    async def call(self, method: str, path: str, body: Any = None, token: str | None = None) -> httpx.Response:
        headers = {} if token is None else {"X-Auth-Token": token}
        return await self.http.request(method, f"/identity/v3{path}", json=body, headers=headers)

    async def authenticate(
        self, identity: dict[str, Any], scope: Any = None, token: str | None = None
    ) -> httpx.Response:
        auth = {"identity": identity} if scope is None else {"identity": identity, "scope": scope}
        return await self.call("POST", "/auth/tokens", {"auth": auth}, token)

    async def log_in(self, user_id: str, password: str, scope: Any = None) -> httpx.Response:
        user = {"id": user_id, "password": password}
        return await self.authenticate({"methods": ["password"], "password": {"user": user}}, scope)

    async def token(self, user_id: str, password: str, scope: Any = None) -> str:
        response = await self.log_in(user_id, password, scope)
        assert response.status_code == 201, response.text
        return response.headers["X-Subject-Token"]

    async def admin_token(self, scope: Any = None) -> str:
        return await self.token(self.ids.admin_user_id, ADMIN_PASSWORD, scope)

    async def is_valid(self, token: str) -> bool:
        """Whether a token opens a door that every token opens."""
        response = await self.call("GET", "/auth/projects", token=token)
        assert response.status_code in {200, 401}
        return response.status_code == 200


class Person:
    """A user with a password, and how to get tokens."""

    def __init__(self, world: World, user_id: str, name: str) -> None:
        self.world = world
        self.id = user_id
        self.name = name
        self.password = f"{name}'s password"

    async def token(self, project_id: str | None = None) -> str:
        scope = {"unscoped": {}} if project_id is None else {"project": {"id": project_id}}
        return await self.world.token(self.id, self.password, scope)


class Admin:
    """Does what an administrator does; each call must succeed."""

    def __init__(self, world: World, token: str) -> None:
        self.world = world
        self.token = token

    async def call(self, method: str, path: str, body: Any = None, expect: int | None = None) -> Any:
        response = await self.world.call(method, path, body, self.token)
        wanted = {expect} if expect else {200, 201, 204}
        assert response.status_code in wanted, (method, path, response.status_code, response.text)
        return response.json() if response.content else None

    async def domain(self, name: str) -> str:
        return (await self.call("POST", "/domains", {"domain": {"name": name}}))["domain"]["id"]

    async def project(self, name: str, **values: Any) -> str:
        return (await self.call("POST", "/projects", {"project": {"name": name, **values}}))["project"]["id"]

    async def user(self, name: str, **values: Any) -> Person:
        body = {"user": {"name": name, "password": f"{name}'s password", **values}}
        return Person(self.world, (await self.call("POST", "/users", body))["user"]["id"], name)

    async def group(self, name: str) -> str:
        return (await self.call("POST", "/groups", {"group": {"name": name}}))["group"]["id"]

    async def role(self, name: str, **values: Any) -> str:
        return (await self.call("POST", "/roles", {"role": {"name": name, **values}}))["role"]["id"]

    async def grant(self, role: str, user: str, project: str) -> None:
        await self.call("PUT", self.grant_path(role, user, project))

    async def ungrant(self, role: str, user: str, project: str) -> None:
        await self.call("DELETE", self.grant_path(role, user, project))

    def grant_path(self, role: str, user: str, project: str) -> str:
        role_id = self.world.ids.role_ids.get(role, role)
        return f"/projects/{project}/users/{user}/roles/{role_id}"

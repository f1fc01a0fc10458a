"""Just as much of an OpenStack cloud as the benchmark calls, with faults on demand, on a loopback port.

Time passes for real, but nothing is built: a server's status follows from when it was asked for.
"""

import asyncio
import itertools
import math
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from tests.serving import serving

PASSWORD = "correct"
COUNTED = 100  # with more servers, counting them at each request would be what is measured
IMAGE_ID, FLAVOR_ID, NETWORK_ID = (str(uuid.uuid5(uuid.NAMESPACE_DNS, name)) for name in ("image", "flavor", "network"))


def iso(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Behaviour:
    """What goes wrong, by the number of the POST /servers request (from 1), and how long things take."""

    build_s: float = 0.05
    build_more_s: float = 0.0  # per server already there: the last is slower than the first
    delete_s: float = 0.0
    error_every: int = 0  # every so many servers end in ERROR with a fault
    refuse: dict[int, int] = field(default_factory=dict)  # request number -> HTTP status
    lose: set[int] = field(default_factory=set)  # the server is made, the connection is cut before the answer
    hang: set[int] = field(default_factory=set)  # the server is made, and nothing is answered
    together: int = 0  # none is built before so many have been asked for
    immortal: int = 0  # so many servers refuse to be deleted (HTTP 500)
    failing_polls: int = 0
    lose_groups: bool = False  # a security group is made, the connection is cut before the answer
    page: int = 1000
    addresses: list[str] = field(default_factory=list)
    network_url_has_version: bool = False
    hypervisors: tuple[str, ...] | None = ("h1",)  # None: this user may not see them
    down: tuple[str, ...] = ()  # of the hypervisors
    accepts: int = 1_000_000  # more servers than these are in ERROR


@dataclass
class FakeServer:
    id: str
    name: str
    created_s: float
    settles_s: float
    error: bool
    address: str
    immortal: bool
    deleted_s: float | None = None

    def gone(self, now_s: float) -> bool:
        return self.deleted_s is not None and now_s >= self.deleted_s

    def updated_s(self, now_s: float) -> float:
        moments = [self.created_s, self.settles_s, self.deleted_s]
        return max(moment for moment in moments if moment is not None and moment <= now_s)

    def status(self, now_s: float) -> str:
        if self.gone(now_s):
            return "DELETED"
        if now_s < self.settles_s:
            return "BUILD"
        return "ERROR" if self.error else "ACTIVE"

    def body(self, now_s: float) -> dict[str, Any]:
        status = self.status(now_s)
        one: dict[str, Any] = {
            "id": self.id, "name": self.name, "status": status, "metadata": {}, "config_drive": "",
            "created": iso(self.created_s), "updated": iso(self.updated_s(now_s)),
            "OS-SRV-USG:launched_at": iso(self.settles_s).rstrip("Z") if status == "ACTIVE" else None,
            "addresses": {"net": [{"addr": self.address, "version": 4, "OS-EXT-IPS:type": "fixed"}]},
        }  # fmt: skip
        if status == "ERROR":
            one["fault"] = {"code": 500, "message": f"No valid host was found for {self.id}.", "created": iso(now_s)}
        return one


class FakeCloud:
    """State, the handlers, and counts of what was asked."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.url = ""
        self.servers: dict[str, FakeServer] = {}
        self.keypairs: dict[str, str] = {}
        self.groups: dict[str, dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.polled_bytes = 0
        self.in_flight = self.most_in_flight = 0
        self.most_building = self.most_alive = 0
        self._posts = itertools.count(1)
        self._made = itertools.count(1)

    def alive(self) -> list[FakeServer]:
        now_s = time.time()
        return [server for server in self.servers.values() if not server.gone(now_s)]

    # --- identity

    async def versions(self, request: Request) -> Response:
        version = {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": self.url + "/identity/v3/"}]}
        return JSONResponse({"version": version})

    async def token(self, request: Request) -> Response:
        self.calls["POST tokens"] += 1
        identity = (await request.json())["auth"]["identity"]
        method = identity[identity["methods"][0]]
        secret = method.get("secret") or method["user"]["password"]
        if secret != PASSWORD:
            return JSONResponse({"error": {"code": 401, "title": "Unauthorized", "message": "wrong"}}, 401)
        domain = {"id": "default", "name": "Default"}
        body = {
            "methods": identity["methods"],
            "issued_at": "2026-01-01T00:00:00.000000Z",
            "expires_at": "2999-01-01T00:00:00.000000Z",
            "user": {"id": "u", "name": "u", "domain": domain},
            "project": {"id": "p", "name": "p", "domain": domain},
            "roles": [],
            "catalog": self.catalog(),
        }
        return JSONResponse({"token": body}, 201, {"X-Subject-Token": "token-1"})

    def catalog(self) -> list[dict[str, Any]]:
        network = "/network" + ("/v2.0" if self.behaviour.network_url_has_version else "")
        paths = {"compute": "/compute/v2.1", "network": network, "image": "/image/"}
        return [
            {"type": kind, "name": kind, "id": kind, "endpoints": [
                {"id": kind, "interface": interface, "region": "r1", "region_id": "r1", "url": self.url + path}
                for interface in ("public", "internal")]}
            for kind, path in paths.items()
        ]  # fmt: skip

    # --- image, flavor, network

    async def images(self, request: Request) -> Response:
        found = [{"id": IMAGE_ID, "name": "guest", "status": "active"}]
        name, ids = request.query_params.get("name"), request.query_params.get("id", "").removeprefix("in:")
        return JSONResponse({"images": [i for i in found if name in (None, i["name"]) and ids in ("", i["id"])]})

    async def flavors(self, request: Request) -> Response:
        big = {"id": "big", "name": "m1.big", "ram": 4096, "vcpus": 4, "disk": 40}
        return JSONResponse({"flavors": [big, {"id": FLAVOR_ID, "name": "m1.nano", "ram": 128, "vcpus": 1, "disk": 1}]})

    async def hypervisors(self, request: Request) -> Response:
        if self.behaviour.hypervisors is None:
            return JSONResponse({"forbidden": {"code": 403, "message": "administrators only"}}, 403)
        has = {"vcpus": 4, "memory_mb": 1024, "memory_mb_used": 512, "running_vms": 0}
        found = [
            {
                "hypervisor_hostname": f"{name}.example",
                "service": {"host": name},
                "state": "down" if name in self.behaviour.down else "up",
                **has,
            }
            for name in self.behaviour.hypervisors
        ]
        return JSONResponse({"hypervisors": found})

    async def services(self, request: Request) -> Response:
        found = [{"host": name, "zone": f"zone-{name[-1]}"} for name in self.behaviour.hypervisors or ()]
        return JSONResponse({"services": found})

    async def networks(self, request: Request) -> Response:
        inner = {"id": NETWORK_ID, "name": "net", "router:external": False, "subnets": ["s"]}
        outer = {"id": str(uuid.uuid4()), "name": "ext", "router:external": True, "subnets": ["t"]}
        return JSONResponse({"networks": [inner, outer]})

    async def create_group(self, request: Request) -> Response:
        group = {**(await request.json())["security_group"], "id": str(uuid.uuid4()), "security_group_rules": []}
        self.groups[group["id"]] = group
        return CutOff() if self.behaviour.lose_groups else JSONResponse({"security_group": group}, 201)

    async def list_groups(self, request: Request) -> Response:
        name = request.query_params.get("name")
        found = [{"id": one["id"], "name": one["name"]} for one in self.groups.values() if name in (None, one["name"])]
        return JSONResponse({"security_groups": found})

    async def create_rule(self, request: Request) -> Response:
        rule = (await request.json())["security_group_rule"]
        self.groups[rule["security_group_id"]]["security_group_rules"].append(rule)
        return JSONResponse({"security_group_rule": rule}, 201)

    async def delete_group(self, request: Request) -> Response:
        if self.alive():
            return JSONResponse({"NeutronError": {"type": "SecurityGroupInUse", "message": "in use"}}, 409)
        self.groups.pop(request.path_params["id"])
        return Response(status_code=204)

    # --- compute

    async def create_keypair(self, request: Request) -> Response:
        keypair = (await request.json())["keypair"]
        self.keypairs[keypair["name"]] = keypair["public_key"]
        return JSONResponse({"keypair": keypair}, 200)

    async def delete_keypair(self, request: Request) -> Response:
        found = self.keypairs.pop(request.path_params["name"], None)
        return Response(status_code=404 if found is None else 202)

    async def create_server(self, request: Request) -> Response:
        number = next(self._posts)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._create_server(number, (await request.json())["server"])
        finally:
            self.in_flight -= 1

    async def _create_server(self, number: int, body: dict[str, Any]) -> Response:
        self.calls["POST servers"] += 1
        self.bodies.append(body)
        await asyncio.sleep(0.002)
        if status := self.behaviour.refuse.get(number):
            return JSONResponse({"fault": {"code": status, "message": f"refused {number}"}}, status)
        count = body.get("min_count", 1)
        names = [body["name"]] if count == 1 else [f"{body['name']}-{one}" for one in range(1, count + 1)]
        made = [self._make(name) for name in names]
        if number in self.behaviour.hang:
            await asyncio.Event().wait()
        if number in self.behaviour.lose:
            return CutOff()
        return JSONResponse({"server": {"id": made[0].id, "links": [], "adminPass": "secret"}}, 202)

    def _make(self, name: str) -> FakeServer:
        number, now_s, how = next(self._made), time.time(), self.behaviour
        addresses = how.addresses or [f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"]
        settles_s = now_s + how.build_s + how.build_more_s * number
        error = (bool(how.error_every) and number % how.error_every == 0) or len(self.alive()) >= how.accepts
        address = addresses[(number - 1) % len(addresses)]
        server = FakeServer(str(uuid.uuid4()), name, now_s, settles_s, error, address, number <= how.immortal)
        self.servers[server.id] = server
        if len(self.servers) < how.together:
            server.settles_s = math.inf
        elif len(self.servers) == how.together:
            for one in self.servers.values():
                one.settles_s = now_s
        if len(self.servers) <= COUNTED:
            self.most_alive = max(self.most_alive, len(self.alive()))
            self.most_building = max(self.most_building, sum(one.status(now_s) == "BUILD" for one in self.alive()))
        return server

    async def list_servers(self, request: Request) -> Response:
        return self._list(request, "GET servers", lambda server, now_s: {"id": server.id, "name": server.name})

    async def list_details(self, request: Request) -> Response:
        if self.behaviour.failing_polls > 0:
            self.behaviour.failing_polls -= 1
            return JSONResponse({"computeFault": {"message": "poll failed"}}, 503)
        return self._list(request, "GET servers/detail", FakeServer.body)

    def _list(self, request: Request, what: str, view: Callable[[FakeServer, float], dict[str, Any]]) -> Response:
        self.calls[what] += 1
        now_s, query = time.time(), request.query_params
        since = query.get("changes-since")
        chosen = []
        for server in self.servers.values():
            if since is not None and iso(server.updated_s(now_s)) < since:
                continue
            if (since is not None or not server.gone(now_s)) and query.get("name", "") in server.name:
                chosen.append(server)
        ids = [server.id for server in chosen]
        start = ids.index(query["marker"]) + 1 if query.get("marker") in ids else 0
        page = chosen[start : start + self.behaviour.page]
        more = start + len(page) < len(chosen)
        links = [{"rel": "next", "href": "http://elsewhere.example/?marker=" + page[-1].id}] if more else []
        body = {"servers": [view(server, now_s) for server in page]}
        response = JSONResponse({**body, "servers_links": links} if more else body)
        self.polled_bytes += len(response.body)
        return response

    async def delete_server(self, request: Request) -> Response:
        self.calls["DELETE servers"] += 1
        now_s = time.time()
        server = self.servers.get(request.path_params["id"])
        if server is None or server.gone(now_s):
            return JSONResponse({"itemNotFound": {"code": 404, "message": "no such server"}}, 404)
        if server.immortal:
            return JSONResponse({"computeFault": {"code": 500, "message": "it will not die"}}, 500)
        server.deleted_s = server.deleted_s or now_s + self.behaviour.delete_s
        return Response(status_code=204)

    def application(self) -> Starlette:
        def checked(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
            async def check(request: Request) -> Response:
                if request.headers.get("X-Auth-Token") != "token-1":
                    return JSONResponse({"error": {"message": "who are you?"}}, 401)
                return await handler(request)

            return check

        def route(path: str, method: str, handler: Callable[[Request], Awaitable[Response]]) -> Route:
            return Route(path, checked(handler), methods=[method])

        compute = [
            route("/servers", "POST", self.create_server),
            route("/servers", "GET", self.list_servers),
            route("/servers/detail", "GET", self.list_details),
            route("/servers/{id}", "DELETE", self.delete_server),
            route("/flavors/detail", "GET", self.flavors),
            route("/os-hypervisors/detail", "GET", self.hypervisors),
            route("/os-services", "GET", self.services),
            route("/os-keypairs", "POST", self.create_keypair),
            route("/os-keypairs/{name}", "DELETE", self.delete_keypair),
        ]
        network = [
            route("/networks", "GET", self.networks),
            route("/security-groups", "POST", self.create_group),
            route("/security-groups", "GET", self.list_groups),
            route("/security-groups/{id}", "DELETE", self.delete_group),
            route("/security-group-rules", "POST", self.create_rule),
        ]
        identity = [
            Route("/v3/auth/tokens", self.token, methods=["POST"]),
            Route("/v3/", self.versions),
            Route("/v3", self.versions),
        ]
        return Starlette(
            routes=[
                Mount("/identity", routes=identity),
                Mount("/compute/v2.1", routes=compute),
                Mount("/network/v2.0", routes=network),
                Mount("/image/v2", routes=[route("/images", "GET", self.images)]),
            ]
        )


class CutOff(Response):
    """Promises a body and does not send it: uvicorn cuts the connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"1000")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})


@asynccontextmanager
async def fake_cloud(behaviour: Behaviour) -> AsyncIterator[FakeCloud]:
    """A fake cloud that listens while the block runs."""
    cloud = FakeCloud(behaviour)
    async with serving(cloud.application()) as cloud.url:
        yield cloud


def clouds_yaml(cloud: FakeCloud, *, password: str = PASSWORD) -> str:
    """A clouds.yaml with the cloud as `fake` (password) and `robot` (application credential)."""
    auth_url = cloud.url + "/identity/v3"
    secret = {"auth_url": auth_url, "application_credential_id": "a", "application_credential_secret": password}
    user = {"auth_url": auth_url, "username": "u", "password": password, "project_name": "p",
            "user_domain_id": "default", "project_domain_id": "default"}  # fmt: skip
    robot = {"auth_type": "v3applicationcredential", "auth": secret, "region_name": "r1"}
    return yaml.safe_dump({"clouds": {"fake": {"auth": user, "region_name": "r1"}, "robot": robot}})

"""Thousands of wrong requests to all APIs of a whole cloud: none is answered 5xx, and the cloud goes on.

A refusal has the form of its API, and (looked at for some of them) has changed nothing.

The requests are drawn from all mutations of one valid request per body, by a seed that a failure names.
"""

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from muster.cli.cloud import DATABASE, CloudSettings, running
from muster.cli.control_plane import Cloud
from tests.databases import place_database

from . import samples
from .answers import check_refusal, fingerprint
from .mutations import mutations

ADMIN_PASSWORD = "an admin's password"
SEED = 20261126
N_BODIES = 600
VERSIONS = ("2.1", "2.37", "2.60", "2.90", "2.96")
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
N_QUERIES = 800
# Of how many requests one is looked at for what it changed.
LOOKED_AT = 8
BAD_SEGMENTS = ("x", "%00", "%ED%A0%80", "%FF", "a%2Fb", "x" * 3_000, "💥", "00000000-0000-0000-0000-000000000000")
BAD_VALUES = (
    "",
    "x",
    "-1",
    "0",
    "1" * 30,
    "%00",
    "%FF",
    "%ED%A0%80",
    "in:",
    "in:a,b",
    "gte:x",
    "true",
    "null",
    "2020-01-01T00:00:00Z",
    "id:asc",
    "ip_address=1.2.3.4",
    "💥",
    "a,b,,",
    "(((",
    "x" * 3_000,
    "١",
)
NAMES = [
    "limit",
    "marker",
    "sort_key",
    "sort_dir",
    "page_reverse",
    "fields",
    "id",
    "name",
    "status",
    "tags",
    "tags-any",
    "not-tags",
    "changes-since",
    "changes-before",
    "all_tenants",
    "project_id",
    "fixed_ips",
    "shared",
    "enabled",
    "domain_id",
    "visibility",
    "size_min",
    "created_at",
    "ip",
    "flavor",
    "minRam",
    "mtu",
    "cidr",
    "ip_version",
    "deleted",
    "locked",
    "network_id",
    "security_groups",
    "member_status",
    "os_hidden",
    "protected",
    "device_id",
    "binding:host_id",
    "user_id",
    "subtree_as_list",
    "parents_as_ids",
    "scope.project.id",
    "effective",
    "hypervisor_hostname_pattern",
    "with_servers",
    "is_public",
    "minDisk",
    "offset",
    "host",
    "binary",
    "tenant_id",
    "start",
    "end",
    "detailed",
]


# Read without a token.
PUBLIC = {
    *("/identity/", "/identity/v3", "/network/", "/network/v2.0", "/compute/", "/compute/v2.1"),
    *("/image/", "/image/versions", "/image/v2"),
}


class Caller:
    """An administrator of the cloud, who is never answered 5xx."""

    def __init__(self, cloud: Cloud, http: httpx.AsyncClient) -> None:
        self.cloud = cloud
        self.http = http
        self.headers: dict[str, str] = {}
        self._numbers = itertools.count(1)

    async def log_in(self) -> str:
        who = {"user": {"name": "admin", "domain": {"id": "default"}, "password": ADMIN_PASSWORD}}
        scope = {"project": {"id": self.cloud.admin_project_id}}
        identity = {"methods": ["password"], "password": who}
        answer = await self.call("POST", "/identity/v3/auth/tokens", {"auth": {"identity": identity, "scope": scope}})
        self.headers = {"X-Auth-Token": answer.headers["x-subject-token"]}
        return answer.headers["x-subject-token"]

    async def call(self, method: str, path: str, body: Any = None, version: str = "2.90") -> httpx.Response:
        """One request; `%d` in the body is another number each time."""
        kind = "application/openstack-images-v2.1-json-patch" if method == "PATCH" and "image" in path else ""
        headers = {
            **self.headers,
            "OpenStack-API-Version": f"compute {version}",
            "Content-Type": kind or "application/json",
        }
        content = json.dumps(body).replace("%d", str(next(self._numbers) % 250)).encode()
        answer = await self.http.request(method, path, content=content if body is not None else None, headers=headers)
        assert answer.status_code < 500 or answer.status_code == 501, (SEED, method, path, body, answer.text)
        if answer.status_code >= 400 and method != "HEAD":
            check_refusal(path, answer)
        return answer

    async def refused(self, method: str, path: str, body: Any = None, version: str = "2.90") -> bool:
        """Whether a request is refused, as which it must have changed nothing."""
        before = await fingerprint(self.cloud.database)
        answer = await self.call(method, path, body, version)
        if answer.status_code < 400:
            return False
        assert await fingerprint(self.cloud.database) == before, (SEED, method, path, body, answer.text)
        return True

    async def make(self, path: str, kind: str, **values: Any) -> str:
        answer = await self.call("POST", path, {kind: values} if kind != "image" else values)
        assert answer.status_code in (200, 201, 202), answer.text
        document = answer.json()
        return document[kind]["id"] if kind in document else document["id"]


@pytest.fixture
async def caller(tmp_path: Path) -> AsyncIterator[Caller]:
    place_database(tmp_path / DATABASE)
    async with running(CloudSettings(folder=tmp_path, sim_hosts=2), ADMIN_PASSWORD) as cloud:
        transport = httpx.ASGITransport(app=cloud.application)
        headers = {"Accept": "application/json"}
        async with httpx.AsyncClient(transport=transport, base_url="http://cloud", headers=headers, timeout=60) as http:
            yield Caller(cloud, http)


async def _made(caller: Caller) -> dict[str, str]:
    """Things to be named in bodies and paths, by kind."""
    token = await caller.log_in()
    project = await caller.make("/identity/v3/projects", "project", name="p")
    network = await caller.make("/network/v2.0/networks", "network", name="n")
    image = {"name": "i", "disk_format": "raw", "container_format": "bare"}
    made = {
        "token": token,
        "admin": caller.cloud.admin_project_id,
        "me": caller.cloud.admin_user_id,
        "project": project,
        "user": await caller.make("/identity/v3/users", "user", name="u", password=samples.PASSWORD),
        "victim": await caller.make("/identity/v3/users", "user", name="v"),
        "service": await caller.make("/identity/v3/services", "service", type="t", name="s"),
        "network": network,
        "plain_network": await caller.make("/network/v2.0/networks", "network", name="m"),
        "subnet": await caller.make(
            "/network/v2.0/subnets", "subnet", network_id=network, cidr="10.9.0.0/24", ip_version=4
        ),
        "port": await caller.make("/network/v2.0/ports", "port", network_id=network),
        "group": await caller.make("/network/v2.0/security-groups", "security_group", name="g"),
        "image": await caller.make("/image/v2/images", "image", **image),
        "shared_image": await caller.make("/image/v2/images", "image", **image, visibility="shared"),
    }
    await caller.call("POST", f"/image/v2/images/{made['shared_image']}/members", {"member": project})
    return made


async def _made_in_compute(caller: Caller, made: dict[str, str]) -> dict[str, str]:
    [guest] = (await caller.call("GET", "/image/v2/images?name=guest")).json()["images"]
    keypair = {"name": "k", "public_key": PUBLIC_KEY}
    await caller.call("POST", "/compute/v2.1/os-keypairs", {"keypair": keypair})
    nics = [{"uuid": made["network"]}]
    server = {"name": "s", "flavorRef": "1", "imageRef": guest["id"], "networks": nics}
    server_id = await caller.make("/compute/v2.1/servers", "server", **server)
    while (await caller.call("GET", f"/compute/v2.1/servers/{server_id}")).json()["server"]["status"] != "ACTIVE":
        await asyncio.sleep(0.05)
    [service] = (await caller.call("GET", "/compute/v2.1/os-services?host=sim-0001")).json()["services"]
    private = {"name": "g", "ram": 1, "vcpus": 1, "disk": 1, "os-flavor-access:is_public": False}
    aggregate = await caller.call("POST", "/compute/v2.1/os-aggregates", {"aggregate": {"name": "a"}})
    return made | {
        "compute_service": service["id"],
        "private_flavor": await caller.make("/compute/v2.1/flavors", "flavor", **private),
        "aggregate": str(aggregate.json()["aggregate"]["id"]),
        "guest": guest["id"],
        "public_key": PUBLIC_KEY,
        "key": "k",
        "flavor": await caller.make("/compute/v2.1/flavors", "flavor", name="f", ram=1, vcpus=1, disk=1),
        "server_group": await caller.make(
            "/compute/v2.1/os-server-groups", "server_group", name="g", policy="affinity"
        ),
        "server": server_id,
    }


def _identity_network_image(made: dict[str, str]) -> list[samples.Sample]:
    return [*samples.identity(made), *samples.network(made), *samples.image(made)]


def _refused_for_a_reason(path: str, answer: httpx.Response) -> bool:
    """A server that is still busy with one request refuses the next."""
    return answer.status_code == 409 and path.endswith("/action")


@pytest.mark.parametrize("bodies", [_identity_network_image, samples.compute, samples.servers])
async def test_wrong_bodies(caller: Caller, bodies: Callable[[dict[str, str]], list[samples.Sample]]) -> None:
    rng = Random(SEED)
    valid = bodies(await _made_in_compute(caller, await _made(caller)))
    before = await fingerprint(caller.cloud.database)
    for method, path, body in valid:  # what is mutated must have been right, or nothing is tried
        answer = await caller.call(method, path, body)
        assert answer.status_code < 300 or _refused_for_a_reason(path, answer), (path, answer.text)
    assert await fingerprint(caller.cloud.database) != before
    wrong = [(method, path, bad) for method, path, body in valid for bad in mutations(body)]
    refused = 0
    drawn = rng.sample(wrong, min(N_BODIES, len(wrong)))
    looked_at = 0
    for number, (method, path, bad) in enumerate(drawn):
        version = rng.choice(VERSIONS)
        if number % LOOKED_AT == 0:
            looked_at += await caller.refused(method, path, bad, version)
        else:
            refused += (await caller.call(method, path, bad, version)).status_code >= 400
    assert looked_at > len(drawn) / LOOKED_AT / 3
    assert refused + looked_at > len(drawn) / 2
    await caller.log_in()


async def test_wrong_paths_and_queries(caller: Caller) -> None:
    rng = Random(SEED)
    await caller.log_in()
    routes = [
        (method, f"/{prefix}{path}")
        for prefix, application in caller.cloud.applications.items()
        for method, path in application.routes
    ]
    for method, path in routes:
        if "{" in path:
            for segment in BAD_SEGMENTS:
                await caller.call(method, re.sub(r"\{[^}]*\}", segment, path))
            if method != "GET":
                await caller.refused(method, re.sub(r"\{[^}]*\}", rng.choice(BAD_SEGMENTS), path))
    listed = [re.sub(r"\{[^}]*\}", "x", path) for method, path in routes if method == "GET"]
    await _without_a_token(caller, listed)
    for _ in range(N_QUERIES):
        query = "&".join(f"{rng.choice(NAMES)}={rng.choice(BAD_VALUES)}" for _ in range(rng.choice((1, 1, 2, 3))))
        await caller.call("GET", f"{rng.choice(listed)}?{query}")


async def _without_a_token(caller: Caller, paths: list[str]) -> None:
    """Whoever has no token, or a forged one, is told so in the same form by all APIs."""
    known = caller.headers
    for forged in ({}, {"X-Auth-Token": "nonsense"}, {"X-Auth-Token": known["X-Auth-Token"][:-4] + "AAAA"}):
        caller.headers = forged
        answers = {path: (await caller.call("GET", path)).status_code for path in paths}
        assert {path for path, status in answers.items() if status != 401} <= PUBLIC, answers
    caller.headers = known

"""Every route of the compute API, asked by everyone: what a caller may not do is refused before anything is read."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import select

from muster.api.http.routing import Route
from muster.domain.policies import Rule
from muster.store.tables import metadata

from .administration.conftest import P1, P2, Bed, Client, a_bed

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLERS = {
    "admin": "admin@" + "c" * 32 + "/root",
    "manager": f"manager@{P1}/maude",
    "member": f"member@{P1}/alice",
    "reader": f"reader@{P1}/carol",
    "stranger": f"member@{P2}/bob",
    "service": f"service@{P1}/sam",
    "nobody": f"none@{P1}/dave",
    "unscoped": "member@/erin",
    "anonymous": "",
    "liar": "nonsense",
}
# Who passes which rule; others are answered 403, and 401 without a valid token.
PASSES = {
    Rule.PUBLIC: set(CALLERS),
    Rule.PROJECT: {"admin", "manager", "member", "reader", "stranger", "service", "nobody"},
    Rule.PROJECT_READER: {"admin", "manager", "member", "reader", "stranger"},
    Rule.PROJECT_MEMBER: {"admin", "manager", "member", "stranger"},
    Rule.ADMIN: {"admin"},
}
# The rules themselves, by the beginning of 'method path', the first that fits: so that a changed one is noticed here.
# What is not listed is reading (GET) or writing what belongs to a project.
V = "/v2.1"
SERVER = f"{V}/servers/{{server_id}}"
RULES: list[tuple[str, Rule]] = [
    ("GET /v2.1/os-quota-sets/{project_id}/defaults", Rule.PROJECT),
    ("GET /v2.1/os-quota-sets", Rule.PROJECT_READER),
    ("GET /v2.1/os-availability-zone/detail", Rule.ADMIN),
    ("GET /v2.1/os-availability-zone", Rule.PROJECT),
    ("GET /v2.1/os-simple-tenant-usage/{project_id}", Rule.PROJECT_READER),
    ("GET /v2.1/extensions", Rule.PROJECT),
    ("GET /v2.1/flavors/{flavor_id}/os-flavor-access", Rule.ADMIN),
    (f"GET {SERVER}/diagnostics", Rule.ADMIN),
    (f"GET {SERVER}/migrations", Rule.ADMIN),
]
ADMINISTRATION = (
    "os-quota-sets",
    "os-quota-class-sets",
    "os-hypervisors",
    "os-hosts",
    "os-services",
    "os-aggregates",
    "os-migrations",
    "os-simple-tenant-usage",
    "os-instance_usage_audit_log",
)
RULES += [
    (f"{method} {V}/{name}", Rule.ADMIN) for method in ("GET", "POST", "PUT", "DELETE") for name in ADMINISTRATION
]
RULES += [(f"{method} {V}/flavors", Rule.ADMIN) for method in ("POST", "PUT", "DELETE")]
RULES += [(f"{method} {V}/os-keypairs", Rule.PROJECT) for method in ("GET", "POST", "DELETE")]
PUBLIC = {"GET /", "GET /v2.1"}
# Routes that name another project or its things in the path: the service judges, whoever passed the rule.
JUDGED_LATER = ("os-quota-sets", "os-simple-tenant-usage", "limits")


class Stage:
    """A cloud in which a project has one of everything that a path can name."""

    def __init__(self, bed: Bed, values: dict[str, str]) -> None:
        self.bed = bed
        self.values = values
        self.routes = bed.cloud.applications["compute"].routes

    def client(self, caller: str) -> Client:
        return self.bed.client(CALLERS[caller])

    def path(self, template: str, *, real: bool) -> str:
        """The path with names of things that are there, or of none."""
        names = {part[1:-1] for part in template.split("/") if part.startswith("{")}
        filled = {name: self.values[name] if real else "11111111-2222-3333-4444-555555555555" for name in names}
        return template.format(**filled)

    async def rows(self) -> dict[str, list[Any]]:
        """All that is kept, but for what hosts' signs of life change."""
        async with self.bed.database.read() as connection:
            return {
                table.name: sorted(map(tuple, await connection.execute(select(table))), key=repr)
                for table in metadata.sorted_tables
                if table.name not in ("hosts", "outbox")
            }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with a_bed(tmp_path_factory.mktemp("cloud")) as bed:
        member, admin = bed.client(CALLERS["member"]), bed.client(CALLERS["admin"])
        body = await bed.server_body(metadata={"k": "v"}, tags=["t"])
        made = (await member.post("/servers", body, v="2.52", status=202))["server"]["id"]
        server = await bed.settled(member, made)
        [interface] = (await member.get(f"/servers/{made}/os-interface"))["interfaceAttachments"]
        [action] = (await member.get(f"/servers/{made}/os-instance-actions"))["instanceActions"]
        group = {"name": "g", "policies": ["affinity"]}
        await member.post("/os-keypairs", {"keypair": {"name": "k"}})
        services = (await admin.get("/os-services", v="2.53"))["services"]
        hypervisors = (await admin.get("/os-hypervisors", v="2.53"))["hypervisors"]
        values = {
            "server_id": made,
            "port_id": interface["port_id"],
            "action_request_id": action["request_id"],
            "network_label": next(iter(server["addresses"])),
            "key": "k",
            "tag": "t",
            "flavor_id": "1",
            "keypair_name": "k",
            "server_group_id": (await member.post("/os-server-groups", {"server_group": group}))["server_group"]["id"],
            "project_id": P1,
            "class_id": "default",
            "service_id": services[0]["id"],
            "hypervisor_id": hypervisors[0]["id"],
            "host_name": hypervisors[0]["hypervisor_hostname"],
        }
        yield Stage(bed, values | dict.fromkeys(_unknown(bed, values), "x"))


def _unknown(bed: Bed, values: dict[str, str]) -> set[str]:
    """Names of parameters for which there is nothing to point at."""
    parts = {part for _, path in bed.cloud.applications["compute"].routes for part in path.split("/")}
    return {part[1:-1] for part in parts if part.startswith("{")} - set(values)


def expected_rule(method: str, path: str) -> Rule:
    if f"{method} {path}" in PUBLIC:
        return Rule.PUBLIC
    for beginning, rule in RULES:
        if f"{method} {path}".startswith(beginning):
            return rule
    return Rule.PROJECT_READER if method == "GET" else Rule.PROJECT_MEMBER


def _version(route: Route) -> str:
    """A microversion that has the route: the highest, so that nothing is missing."""
    version = route.until or (2, 96)
    return f"{version[0]}.{version[1]}"


def _is_novas_error(response: Any) -> bool:
    [(_, fault)] = response.json().items()
    return fault["code"] == response.status_code and bool(fault["message"])


async def test_the_rules(stage: Stage) -> None:
    for (method, path), route in stage.routes.items():
        assert route.rule is expected_rule(method, path), (method, path)


async def test_every_route_with_every_caller(stage: Stage) -> None:
    before = await stage.rows()
    for (method, path), route in stage.routes.items():
        for caller in CALLERS:
            passes = caller in PASSES[route.rule]
            # A body that no handler takes, and where it would do, nothing to do it to.
            url = stage.path(path, real=not passes).removeprefix(V)
            response = await _call(stage.client(caller), method, path, url, _version(route))
            said = (caller, method, path, response.status_code, response.text)
            if passes:
                allowed_later = response.status_code == 403 and any(name in path for name in JUDGED_LATER)
                assert response.status_code not in (401, 403) or allowed_later, said
                assert response.status_code < 500 or response.status_code == 501, said
            else:
                assert response.status_code == (401 if caller in ("anonymous", "liar") else 403), said
            if response.status_code >= 400:
                assert _is_novas_error(response), said
    assert await stage.rows() == before


async def test_another_projects_things_are_not_found(stage: Stage) -> None:
    """Whoever is no admin and of another project reads nothing of a server or server group, and changes nothing."""
    before = await stage.rows()
    tried = 0
    for (method, path), route in stage.routes.items():
        if "{server_id}" not in path and "{server_group_id}" not in path:
            continue
        url = stage.path(path, real=True).removeprefix(V)
        response = await _call(stage.client("stranger"), method, path, url, _version(route), None)
        if route.rule is Rule.ADMIN:
            assert response.status_code == 403
        elif method in ("GET", "DELETE") or response.status_code != 400:
            assert response.status_code == 404, (method, path, response.text)
        tried += 1
    assert tried > 30
    assert await stage.rows() == before


async def _call(client: Client, method: str, path: str, url: str, version: str, body: Any = b"[]") -> Any:
    if path == "/":
        return await client.http.request(method, "/", headers={"X-Auth-Token": client.token})
    return await client.call(method, url, body if method in ("POST", "PUT") else None, v=version)

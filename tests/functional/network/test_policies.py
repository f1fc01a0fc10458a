"""Every route with every kind of caller. What a caller may not do is refused before anything else is looked at."""

from muster.domain.policies import Rule
from muster.store.specs import read_networks

CALLERS = {
    "admin": "admin@adm",
    "manager": "manager@p1",
    "member": "member@p1",
    "reader": "reader@p1",
    "service": "service@p1",
    "nobody": "none@p1",
    "unscoped": "member@",
    "anonymous": "",
    "liar": "nonsense",
}
# Who passes which rule; others get 403, and 401 without a valid token.
PASSES = {
    Rule.PUBLIC: set(CALLERS),
    Rule.PROJECT_READER: {"admin", "manager", "member", "reader"},
    Rule.PROJECT_MEMBER: {"admin", "manager", "member"},
    Rule.ADMIN: {"admin"},
}
# The rules themselves, so that a changed table is noticed here: everything else is reading or writing a project's own.
PUBLIC = {("GET", "/"), ("GET", "/v2.0")}
ADMIN = {
    ("GET", "/v2.0/quotas"),
    ("PUT", "/v2.0/quotas/{project_id}"),
    ("DELETE", "/v2.0/quotas/{project_id}"),
    ("GET", "/v2.0/agents/{agent_id}"),
    ("PUT", "/v2.0/agents/{agent_id}"),
    ("DELETE", "/v2.0/agents/{agent_id}"),
    ("GET", "/v2.0/network-ip-availabilities"),
    ("GET", "/v2.0/network-ip-availabilities/{network_id}"),
}


def expected_rule(method: str, path: str) -> Rule:
    if (method, path) in PUBLIC:
        return Rule.PUBLIC
    if (method, path) in ADMIN:
        return Rule.ADMIN
    return Rule.PROJECT_READER if method == "GET" else Rule.PROJECT_MEMBER


async def test_every_route_with_every_caller(cloud):
    for (method, path), route in cloud.app.routes.items():
        assert route.rule is expected_rule(method, path), (method, path)
        url = path.format(
            network_id="x",
            subnet_id="x",
            port_id="x",
            group_id="x",
            rule_id="x",
            agent_id="x",
            alias="x",
            tag="x",
            project_id="p1",
        )
        for caller, token in CALLERS.items():
            status = (await cloud.client(token).call(method, url)).status_code
            if caller in PASSES[route.rule]:
                assert status not in (401, 403), (caller, method, path)
            else:
                assert status == (401 if caller in ("anonymous", "liar") else 403), (caller, method, path)


async def test_another_projects_things_are_not_found(cloud, member):
    network = await member.network()
    subnet = await member.subnet(network)
    port = await member.port(network)
    group = (await member.post("/v2.0/security-groups", {"security_group": {"name": "g"}}))["security_group"]
    rule = group["security_group_rules"][0]
    ids = {"network_id": network, "subnet_id": subnet, "port_id": port, "group_id": group, "rule_id": rule}
    bodies = {"networks": "network", "subnets": "subnet", "ports": "port", "security-groups": "security_group"}
    other = cloud.client("member@p2")
    tried = 0
    for method, path in cloud.app.routes:
        kind = path.split("/")[2] if path.count("/") > 1 else ""
        parameter = next((name for name in ids if f"{{{name}}}" in path), None)
        if parameter is None or kind == "network-ip-availabilities":
            continue
        url = path.format(**{name: item["id"] for name, item in ids.items()}, tag="t")
        body = {"tags": []} if path.endswith("/tags") else {bodies.get(kind, "x"): {"description": "x"}}
        status = (await other.call(method, url, body if method == "PUT" else None)).status_code
        assert status == 404, (method, path, status)
        tried += 1
    assert tried == 5 * 3 - 1 + 4 * 6
    for item, kind in ((network, "networks"), (subnet, "subnets"), (port, "ports"), (group, "security-groups")):
        await member.get(f"/v2.0/{kind}/{item['id']}")


async def test_nobody_passes_for_a_networks_dhcp_port(cloud, admin, other):
    """Users may write any device's id into a port, on networks that are shared with them too."""
    network = await admin.network(shared=True)
    first = await admin.subnet(network)
    [dhcp] = (await admin.get("/v2.0/ports?device_owner=network:dhcp"))["ports"]
    posing = await other.port(network, device_id=dhcp["device_id"])
    await other.put(f"/v2.0/ports/{posing['id']}", {"port": {"device_owner": "network:dhcp"}}, 403)
    second = await admin.subnet(network, "10.1.0.0/24")
    await admin.put(f"/v2.0/subnets/{first['id']}", {"subnet": {"enable_dhcp": False}})
    shown = (await other.get(f"/v2.0/ports/{posing['id']}"))["port"]
    assert shown["fixed_ips"] == posing["fixed_ips"]
    [dhcp] = (await admin.get("/v2.0/ports?device_owner=network:dhcp"))["ports"]
    assert [one["subnet_id"] for one in dhcp["fixed_ips"]] == [second["id"]]
    async with cloud.database.read() as connection:
        [spec] = (await read_networks(connection, [network["id"]])).values()
    told = {subnet.id: subnet.dhcp_address for subnet in spec.subnets}
    assert told == {first["id"]: None, second["id"]: dhcp["fixed_ips"][0]["ip_address"]}
    await other.delete(f"/v2.0/ports/{posing['id']}")

"""Whatever is sent, the answer is a 4xx in Neutron's body and nothing changes."""

import pytest

HUGE = 2**200
RESOURCES = {
    "networks": "network",
    "subnets": "subnet",
    "ports": "port",
    "security-groups": "security_group",
    "security-group-rules": "security_group_rule",
}
ATTRIBUTES = {
    "networks": ["name", "admin_state_up", "mtu", "dns_domain", "availability_zone_hints", "shared", "description"],
    "subnets": [
        "network_id",
        "cidr",
        "ip_version",
        "gateway_ip",
        "allocation_pools",
        "dns_nameservers",
        "host_routes",
        "service_types",
        "enable_dhcp",
        "name",
    ],
    "ports": [
        "network_id",
        "fixed_ips",
        "mac_address",
        "security_groups",
        "allowed_address_pairs",
        "extra_dhcp_opts",
        "device_id",
        "dns_name",
        "tags",
        "binding:profile",
        "admin_state_up",
    ],
    "security-groups": ["name", "description", "stateful"],
    "security-group-rules": ["security_group_id", "direction", "protocol", "port_range_min", "remote_ip_prefix"],
}
BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"7",
    b'"x"',
    b"\xff\xfe",
    b'{"RESOURCE": null}',
    b'{"RESOURCE": []}',
    b'{"RESOURCE": {"name": "\\ud800"}}',
    b'{"RESOURCE": {"\\u0000": 1}}',
    b'{"RESOURCE": {"tenant_id": 5}}',
    b'{"RESOURCE": {"tenant_id": "a", "project_id": "b"}}',
    b'{"RESOURCE": {"id": "x"}}',
    b'{"RESOURCE": {"revision_number": 1}}',
    b'{"RESOURCE": {"nonsense": 1}}',
    b'{"RESOURCE": {}, "other": {}}',
    b"[" * 100_000,
    b'{"RESOURCE": ' * 5_000,
]
VALUES = [
    5,
    HUGE,
    -1.5,
    "x" * 300,
    "a\x00b",
    [],
    [5],
    {},
    {"a": 1},
    [{"a": "b"}],
    [[[]]],
    [{"subnet_id": 5, "ip_address": HUGE}],
    True,
    "fe80::1%eth0",
]


@pytest.mark.parametrize("kind", RESOURCES)
async def test_bodies_that_are_none(member, kind):
    for body in BODIES:
        response = await member.call("POST", f"/v2.0/{kind}", body.replace(b"RESOURCE", RESOURCES[kind].encode()))
        assert response.status_code == 400, (body[:60], response.text)
        assert set(response.json()["NeutronError"]) == {"type", "message", "detail"}


@pytest.mark.parametrize("kind", RESOURCES)
async def test_values_of_the_wrong_kind(admin, kind):
    network = await admin.network()
    base = {
        "networks": {},
        "subnets": {"network_id": network["id"], "cidr": "10.0.0.0/24", "ip_version": 4, "enable_dhcp": False},
        "ports": {"network_id": network["id"]},
        "security-groups": {"name": "g"},
        "security-group-rules": {"security_group_id": network["id"], "direction": "ingress"},
    }[kind]
    for name in ATTRIBUTES[kind]:
        for value in VALUES:
            body = {RESOURCES[kind]: {**base, name: value}}
            response = await admin.call("POST", f"/v2.0/{kind}", body)
            assert response.status_code in (201, 400, 404, 409), (name, value, response.text)
            if response.status_code == 201:
                made = response.json()[RESOURCES[kind]]
                await admin.delete(f"/v2.0/{kind}/{made['id']}")


async def test_updates_of_the_wrong_kind(admin):
    network = await admin.network()
    subnet = await admin.subnet(network, enable_dhcp=False)
    port = await admin.port(network)
    made = {"networks": network, "subnets": subnet, "ports": port}
    for kind, item in made.items():
        path = f"/v2.0/{kind}/{item['id']}"
        for name in ATTRIBUTES[kind]:
            for value in VALUES:
                response = await admin.call("PUT", path, {RESOURCES[kind]: {name: value}})
                assert response.status_code in (200, 400, 404, 409), (name, value, response.text)


@pytest.mark.parametrize("kind", RESOURCES)
async def test_queries_that_are_malformed(member, kind):
    for query in (
        "limit=x",
        "limit=-1",
        f"limit={HUGE}&sort_key=nonsense",
        "sort_key=id&sort_key=name&sort_dir=asc",
        "id=%00",
        "%00=x",
        "id=%ff",
        "nonsense=x",
        "marker=%00",
        "changed_since=x",
        "revision_number=x",
        "&".join(f"id={n}" for n in range(600)),
    ):
        response = await member.call("GET", f"/v2.0/{kind}?{query}")
        assert response.status_code == 400, (query[:60], response.text)
    for query in (f"revision_number={2**40}", "id=", "description=%F0%9F%90%91", "fields=nonsense", f"limit={2**40}"):
        await member.get(f"/v2.0/{kind}?{query}")


async def test_paths_that_name_nothing(member):
    for kind in (*RESOURCES, "quotas", "agents", "extensions"):
        for name in ("%00", "x" * 5_000, "%F0%9F%90%91", "..%2f..", "'%3B--"):
            response = await member.call("GET", f"/v2.0/{kind}/{name}")
            assert response.status_code in (403, 404), (kind, name[:9], response.text)


async def test_a_body_that_is_too_large(member):
    response = await member.call("POST", "/v2.0/networks", b'{"network": {"name": "' + b"x" * 2_000_000 + b'"}}')
    assert response.status_code == 413


async def test_no_token_or_a_bad_one(cloud):
    for token in ("", "nonsense"):
        response = await cloud.client(token).call("GET", "/v2.0/networks")
        assert response.status_code == 401
        assert response.json()["error"]["code"] == 401


async def test_what_has_a_given_revision_is_not_changed_at_all(cloud, member):
    """Neutron's `revision-if-match` is not offered: who asks for it must not lose what others wrote meanwhile."""
    network = await member.network(name="n")
    path, headers = f"/v2.0/networks/{network['id']}", {"X-Auth-Token": member.token, "If-Match": "revision_number=7"}
    for method, body in (("PUT", {"network": {"name": "m"}}), ("DELETE", None)):
        response = await cloud.http.request(method, path, json=body, headers=headers)
        error = response.json()["NeutronError"]
        assert (response.status_code, error["type"]) == (501, "HTTPNotImplemented")
        assert "a given revision (If-Match)" in error["message"]
    assert (await member.get(path))["network"]["name"] == "n"

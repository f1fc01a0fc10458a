"""Security groups and their rules: requests and answers."""

import asyncio

import pytest


def error(response) -> str:
    return response.json()["NeutronError"]["type"]


async def a_group(client, name: str = "g") -> dict:
    return (await client.post("/v2.0/security-groups", {"security_group": {"name": name}}))["security_group"]


async def test_every_project_has_a_default_group(member, other):
    answers = await asyncio.gather(*(member.get("/v2.0/security-groups") for _ in range(5)))
    [group] = answers[0]["security_groups"]
    assert all(answer["security_groups"][0]["id"] == group["id"] for answer in answers)
    rules = {(one["direction"], one["ethertype"], one["remote_group_id"]) for one in group["security_group_rules"]}
    assert rules == {
        ("egress", "IPv4", None),
        ("egress", "IPv6", None),
        ("ingress", "IPv4", group["id"]),
        ("ingress", "IPv6", group["id"]),
    }
    assert all(one["belongs_to_default_sg"] for one in group["security_group_rules"])
    path = f"/v2.0/security-groups/{group['id']}"
    response = await member.call("DELETE", path)
    assert (response.status_code, error(response)) == (409, "SecurityGroupCannotRemoveDefault")
    response = await member.call("PUT", path, {"security_group": {"name": "x"}})
    assert (response.status_code, error(response)) == (409, "SecurityGroupCannotUpdateDefault")
    await member.put(path, {"security_group": {"description": "x"}})
    await other.get(path, 404)
    for name in ("default", "Default"):
        response = await member.call("POST", "/v2.0/security-groups", {"security_group": {"name": name}})
        assert (response.status_code, error(response)) == (409, "SecurityGroupDefaultAlreadyExists")


async def test_a_group_from_creation_to_deletion(member):
    group = await a_group(member)
    assert {(one["direction"], one["ethertype"]) for one in group["security_group_rules"]} == {
        ("egress", "IPv4"),
        ("egress", "IPv6"),
    }
    path = f"/v2.0/security-groups/{group['id']}"
    fields = {"name": "h", "description": "d", "stateful": False}
    changed = (await member.put(path, {"security_group": fields}))["security_group"]
    assert {name: changed[name] for name in fields} == fields
    found = (await member.get("/v2.0/security-groups?name=h&stateful=False"))["security_groups"]
    assert [one["id"] for one in found] == [group["id"]]
    await member.delete(path)
    await member.get(path, 404)
    used = (await member.get("/v2.0/quotas/p1/details"))["quota"]
    assert (used["security_group"]["used"], used["security_group_rule"]["used"]) == (1, 4)


async def test_a_rule_is_made_once(member):
    group = await a_group(member)
    rule = {
        "security_group_id": group["id"],
        "direction": "ingress",
        "protocol": "tcp",
        "port_range_min": 22,
        "port_range_max": "22",
        "remote_ip_prefix": "10.0.0.7/8",
    }
    made = (await member.post("/v2.0/security-group-rules", {"security_group_rule": rule}))["security_group_rule"]
    assert (made["ethertype"], made["normalized_cidr"], made["port_range_max"]) == ("IPv4", "10.0.0.0/8", 22)
    for same in ({"protocol": "6"}, {"protocol": 6, "description": "x"}, {"remote_ip_prefix": "10.0.0.0/8"}):
        response = await member.call("POST", "/v2.0/security-group-rules", {"security_group_rule": {**rule, **same}})
        assert (response.status_code, error(response)) == (409, "SecurityGroupRuleExists")
        assert made["id"] in response.json()["NeutronError"]["message"]
    listed = await member.get(f"/v2.0/security-group-rules?security_group_id={group['id']}&direction=ingress")
    assert listed["security_group_rules"] == [made]
    path = f"/v2.0/security-group-rules/{made['id']}"
    assert (await member.get(path))["security_group_rule"] == made
    await member.delete(path)
    await member.delete(path, 404)
    everything = {"security_group_id": group["id"], "direction": "ingress"}
    await member.post("/v2.0/security-group-rules", {"security_group_rule": everything})
    anywhere = {**everything, "remote_ip_prefix": "0.0.0.0/0"}
    await member.post("/v2.0/security-group-rules", {"security_group_rule": anywhere}, 409)


@pytest.mark.parametrize(
    ("fields", "status", "kind"),
    [
        ({"protocol": "nonsense"}, 400, "SecurityGroupRuleInvalidProtocol"),
        ({"protocol": 256}, 400, "SecurityGroupRuleInvalidProtocol"),
        ({"protocol": 2**80}, 400, "SecurityGroupRuleInvalidProtocol"),
        ({"ethertype": "IPv5"}, 400, "SecurityGroupRuleInvalidEtherType"),
        ({"port_range_min": 1, "port_range_max": 2}, 400, "SecurityGroupProtocolRequiredWithPorts"),
        ({"protocol": "tcp", "port_range_min": 3, "port_range_max": 2}, 400, "SecurityGroupInvalidPortRange"),
        ({"protocol": "tcp", "port_range_min": 3}, 400, "SecurityGroupInvalidPortRange"),
        ({"protocol": "udp", "port_range_min": 0, "port_range_max": 2}, 400, "SecurityGroupInvalidPortValue"),
        ({"protocol": "tcp", "port_range_min": 3, "port_range_max": 70000}, 400, "SecurityGroupInvalidPortValue"),
        ({"protocol": "tcp", "port_range_min": "x", "port_range_max": 1}, 400, "SecurityGroupInvalidPortValue"),
        ({"protocol": "icmp", "port_range_min": 256}, 400, "SecurityGroupInvalidIcmpValue"),
        ({"protocol": "icmp", "port_range_max": 3}, 400, "SecurityGroupMissingIcmpType"),
        ({"protocol": "gre", "port_range_min": 1, "port_range_max": 1}, 400, "SecurityGroupInvalidProtocolForPort"),
        ({"protocol": "ipv6-icmp"}, 400, "SecurityGroupEthertypeConflictWithProtocol"),
        ({"remote_ip_prefix": "fd00::/64"}, 400, "SecurityGroupRuleParameterConflict"),
        ({"remote_ip_prefix": "nonsense"}, 400, "HTTPBadRequest"),
        ({"remote_group_id": "11111111-1111-1111-1111-111111111111"}, 404, "SecurityGroupNotFound"),
        ({"direction": "sideways"}, 400, "HTTPBadRequest"),
        ({"security_group_id": "11111111-1111-1111-1111-111111111111"}, 404, "SecurityGroupNotFound"),
        ({"nonsense": 1}, 400, "HTTPBadRequest"),
        ({"name": "rules have none"}, 400, "HTTPBadRequest"),
    ],
)
async def test_rules_that_cannot_be(member, fields, status, kind):
    group = await a_group(member)
    rule = {"security_group_id": group["id"], "direction": "ingress", **fields}
    response = await member.call("POST", "/v2.0/security-group-rules", {"security_group_rule": rule})
    assert (response.status_code, error(response)) == (status, kind), response.text
    assert (
        len((await member.get(f"/v2.0/security-groups/{group['id']}"))["security_group"]["security_group_rules"]) == 2
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"protocol": "icmp", "port_range_min": 8, "port_range_max": 0},
        {"protocol": "icmp", "port_range_min": 8},
        {"protocol": "ICMPv6", "ethertype": "ipv6"},
        {"protocol": "any"},
        {"protocol": None, "ethertype": "IPv6", "remote_ip_prefix": "fd00::1"},
        {"protocol": "112"},
        {"protocol": "sctp", "port_range_min": 1, "port_range_max": 65535},
    ],
)
async def test_rules_that_can_be(member, fields):
    group = await a_group(member)
    rule = {"security_group_id": group["id"], "direction": "ingress", **fields}
    await member.post("/v2.0/security-group-rules", {"security_group_rule": rule})


async def test_bulk_rules_are_of_one_group(member):
    one, two = await a_group(member), await a_group(member, "h")
    rules = [{"security_group_id": one["id"], "direction": "ingress", "protocol": p} for p in ("tcp", "udp")]
    made = await member.post("/v2.0/security-group-rules", {"security_group_rules": rules})
    assert [rule["protocol"] for rule in made["security_group_rules"]] == ["tcp", "udp"]
    double = [{"security_group_id": one["id"], "direction": "ingress", "protocol": p} for p in ("sctp", "132")]
    await member.post("/v2.0/security-group-rules", {"security_group_rules": double}, 409)
    mixed = [{"security_group_id": group["id"], "direction": "ingress", "protocol": "gre"} for group in (one, two)]
    await member.post("/v2.0/security-group-rules", {"security_group_rules": mixed}, 400)


async def test_remote_groups_go_with_the_group(member, other):
    one, two, foreign = await a_group(member), await a_group(member, "h"), await a_group(other)
    rule = {"security_group_id": one["id"], "direction": "ingress", "remote_group_id": two["id"]}
    await member.post("/v2.0/security-group-rules", {"security_group_rule": rule})
    both = {**rule, "remote_ip_prefix": "10.0.0.0/8"}
    await member.post("/v2.0/security-group-rules", {"security_group_rule": both}, 400)
    hidden = {**rule, "remote_group_id": foreign["id"]}
    await member.post("/v2.0/security-group-rules", {"security_group_rule": hidden}, 404)
    await member.delete(f"/v2.0/security-groups/{two['id']}")
    left = (await member.get(f"/v2.0/security-groups/{one['id']}"))["security_group"]["security_group_rules"]
    assert {rule["direction"] for rule in left} == {"egress"}


@pytest.mark.parametrize("name", ["security_group_id", "remote_group_id"])
@pytest.mark.parametrize("unknown", ["no-such-group", "11111111-1111-1111-1111-111111111111"])
async def test_a_rule_about_an_unknown_group_is_not_found(member, name, unknown):
    group = await a_group(member)
    rule = {"security_group_id": group["id"], "direction": "ingress", name: unknown}
    response = await member.call("POST", "/v2.0/security-group-rules", {"security_group_rule": rule})
    assert (response.status_code, error(response)) == (404, "SecurityGroupNotFound")


async def test_no_group_is_shared(member):
    group = (await member.post("/v2.0/security-groups", {"security_group": {"name": "g"}}))["security_group"]
    assert (await member.get("/v2.0/security-groups?shared=true"))["security_groups"] == []
    own = (await member.get("/v2.0/security-groups?shared=false"))["security_groups"]
    assert {one["name"] for one in own} == {"default", "g"}
    assert group["shared"] is False

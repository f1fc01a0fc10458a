"""Quotas: set, shown, and kept to."""

import asyncio
from collections import Counter


async def test_limits_are_set_shown_and_reset(admin, member, other):
    unlimited = {"network": -1, "subnet": -1, "port": -1, "security_group": -1, "security_group_rule": -1}
    assert (await member.get("/v2.0/quotas/p1"))["quota"] == unlimited
    quota = (await admin.put("/v2.0/quotas/p1", {"quota": {"port": 5, "network": "7", "check_limit": True}}))["quota"]
    assert quota == {**unlimited, "port": 5, "network": 7}
    assert (await member.get("/v2.0/quotas/p1"))["quota"] == quota
    assert (await member.get("/v2.0/quotas/p1/default"))["quota"] == unlimited
    assert (await admin.get("/v2.0/quotas"))["quotas"] == [{**quota, "project_id": "p1", "tenant_id": "p1"}]
    assert (await member.get("/v2.0/quotas/tenant"))["tenant"]["tenant_id"] == "p1"
    await other.get("/v2.0/quotas/p1", 403)
    await member.put("/v2.0/quotas/p1", {"quota": {"port": 9}}, 403)
    for wrong in ({"port": -2}, {"port": "x"}, {"port": 2**70}, {"port": None}, {"nonsense": 1}, {"check_limit": 5}):
        await admin.put("/v2.0/quotas/p1", {"quota": wrong}, 400)
    await admin.put("/v2.0/quotas/p1", {"port": 1}, 400)
    await admin.delete("/v2.0/quotas/p1")
    assert (await admin.get("/v2.0/quotas/p1"))["quota"] == unlimited


async def test_limits_are_kept_also_by_concurrent_requests(admin, member):
    network = await member.network()
    await member.subnet(network, enable_dhcp=False)
    await admin.put("/v2.0/quotas/p1", {"quota": {"port": 10}})
    body = {"port": {"network_id": network["id"]}}
    answers = await asyncio.gather(*(member.call("POST", "/v2.0/ports", body) for _ in range(30)))
    assert Counter(answer.status_code for answer in answers) == {201: 10, 409: 20}
    refused = next(answer for answer in answers if answer.status_code == 409).json()["NeutronError"]
    assert (refused["type"], refused["message"]) == ("OverQuota", "Quota exceeded for resources: ['port'].")
    details = (await member.get("/v2.0/quotas/p1/details.json"))["quota"]
    assert details["port"] == {"limit": 10, "used": 10, "reserved": 0}
    response = await admin.call("PUT", "/v2.0/quotas/p1", {"quota": {"port": 3, "check_limit": True}})
    assert (response.status_code, response.json()["NeutronError"]["type"]) == (409, "InvalidQuotaValue")
    await admin.put("/v2.0/quotas/p1", {"quota": {"port": 3}})


async def test_each_resource_is_limited(admin, member):
    network = await member.network()
    limits = {"network": 1, "subnet": 0, "security_group": 1, "security_group_rule": 4}
    await member.get("/v2.0/security-groups")
    await admin.put("/v2.0/quotas/p1", {"quota": limits})
    group = (await member.get("/v2.0/security-groups"))["security_groups"][0]
    subnet = {"network_id": network["id"], "cidr": "10.0.0.0/24", "ip_version": 4}
    rule = {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp"}
    for path, body in (
        ("networks", {"network": {}}),
        ("subnets", {"subnet": subnet}),
        ("security-groups", {"security_group": {"name": "x"}}),
        ("security-group-rules", {"security_group_rule": rule}),
    ):
        response = await member.call("POST", f"/v2.0/{path}", body)
        assert (response.status_code, response.json()["NeutronError"]["type"]) == (409, "OverQuota"), path
    await member.delete(f"/v2.0/networks/{network['id']}")
    await member.network()

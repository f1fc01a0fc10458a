"""Ports: requests and answers."""

import asyncio
from collections import Counter


async def _error(response) -> str:
    return response.json()["NeutronError"]["type"]


async def test_a_port_gets_an_address_a_mac_and_the_default_group(member):
    network = await member.network(name="n")
    subnet = await member.subnet(network)
    port = await member.port(network, name="p")
    assert port["fixed_ips"] == [{"subnet_id": subnet["id"], "ip_address": "10.0.0.3"}]  # .1 gateway, .2 DHCP
    assert port["mac_address"].startswith("fa:16:")
    assert port["status"] == "DOWN"
    [group] = (await member.get("/v2.0/security-groups"))["security_groups"]
    assert (group["name"], port["security_groups"]) == ("default", [group["id"]])
    assert (await member.get(f"/v2.0/ports/{port['id']}"))["port"] == port
    await member.delete(f"/v2.0/ports/{port['id']}")
    await member.get(f"/v2.0/ports/{port['id']}", 404)
    await member.delete(f"/v2.0/ports/{port['id']}", 404)


async def test_800_concurrent_ports_all_get_different_addresses(member):
    network = await member.network()
    await member.subnet(network, "10.0.0.0/16")
    body = {"port": {"network_id": network["id"]}}
    answers = await asyncio.gather(*(member.call("POST", "/v2.0/ports", body) for _ in range(800)))
    assert Counter(answer.status_code for answer in answers) == {201: 800}
    ports = [answer.json()["port"] for answer in answers]
    assert len({port["fixed_ips"][0]["ip_address"] for port in ports}) == 800
    assert len({port["mac_address"] for port in ports}) == 800
    gone = await asyncio.gather(*(member.call("DELETE", f"/v2.0/ports/{port['id']}") for port in ports))
    assert Counter(answer.status_code for answer in gone) == {204: 800}
    assert (await member.get("/v2.0/quotas/p1/details"))["quota"]["port"]["used"] == 1  # the DHCP port


async def test_as_many_requests_as_free_addresses_all_succeed_and_one_more_does_not(member):
    network = await member.network()
    pool = [{"start": "10.0.0.10", "end": "10.0.0.110"}]  # 101 addresses, one is the DHCP port's
    await member.subnet(network, allocation_pools=pool)
    body = {"port": {"network_id": network["id"]}}
    answers = await asyncio.gather(*(member.call("POST", "/v2.0/ports", body) for _ in range(100)))
    assert Counter(answer.status_code for answer in answers) == {201: 100}
    one_more = await member.call("POST", "/v2.0/ports", body)
    assert (one_more.status_code, await _error(one_more)) == (409, "IpAddressGenerationFailure")
    await member.delete(f"/v2.0/ports/{answers[7].json()['port']['id']}")
    await member.port(network)

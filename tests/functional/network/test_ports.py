"""Ports: requests and answers."""

import asyncio
from collections import Counter

import pytest

from muster.base.errors import Stale, Transient
from muster.services.ports import Ports


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


async def test_what_a_port_may_ask_for(member, admin):
    network = await member.network()
    subnet = await member.subnet(network)
    group = (await member.post("/v2.0/security-groups", {"security_group": {"name": "g"}}))["security_group"]
    fields = {
        "name": "p",
        "mac_address": "FA:16:3E:00:00:01",
        "fixed_ips": [{"ip_address": "10.0.0.50"}, {"subnet_id": subnet["id"]}],
        "security_groups": [group["id"]],
        "allowed_address_pairs": [
            {"ip_address": "10.8.0.0/16"},
            {"ip_address": "10.7.0.1", "mac_address": "fa:16:3e:00:00:02"},
        ],
        "extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": "1400"}],
        "device_id": "device",
        "device_owner": "compute:nova",
        "dns_name": "host",
        "tags": ["a"],
    }
    port = await member.port(network, **fields)
    assert [one["ip_address"] for one in port["fixed_ips"]] == ["10.0.0.50", "10.0.0.3"]
    assert port["mac_address"] == "fa:16:3e:00:00:01"
    assert port["allowed_address_pairs"][0] == {"ip_address": "10.8.0.0/16", "mac_address": "fa:16:3e:00:00:01"}
    assert port["extra_dhcp_opts"] == [{"opt_name": "mtu", "opt_value": "1400", "ip_version": 4}]
    assert port["dns_assignment"][0]["fqdn"] == "host.openstacklocal."
    assert (port["tags"], port["security_groups"]) == (["a"], [group["id"]])
    assert "binding:host_id" not in port
    seen = (await admin.get(f"/v2.0/ports/{port['id']}"))["port"]
    assert (seen["binding:host_id"], seen["binding:vif_type"], seen["binding:vnic_type"]) == ("", "unbound", "normal")
    response = await member.call("DELETE", f"/v2.0/security-groups/{group['id']}")
    assert (response.status_code, await _error(response)) == (409, "SecurityGroupInUse")


async def test_what_a_port_cannot_have(member, other):
    network = await member.network()
    subnet = await member.subnet(network)
    foreign = (await other.post("/v2.0/security-groups", {"security_group": {"name": "g"}}))["security_group"]
    await member.port(network, mac_address="fa:16:3e:00:00:01", fixed_ips=[{"ip_address": "10.0.0.50"}])
    nobody = "11111111-1111-1111-1111-111111111111"
    for fields, status, kind in (
        ({"mac_address": "fa:16:3e:00:00:01"}, 409, "MacAddressInUse"),
        ({"mac_address": "01:00:5e:00:00:01"}, 400, "HTTPBadRequest"),
        ({"fixed_ips": [{"ip_address": "10.0.0.50"}]}, 409, "IpAddressAlreadyAllocated"),
        ({"fixed_ips": [{"ip_address": "10.0.0.0"}]}, 400, "InvalidIpForSubnet"),
        ({"fixed_ips": [{"ip_address": "10.5.0.1"}]}, 400, "InvalidIpForNetwork"),
        ({"fixed_ips": [{"ip_address": "10.5.0.1", "subnet_id": subnet["id"]}]}, 400, "InvalidIpForSubnet"),
        ({"fixed_ips": [{"subnet_id": nobody}]}, 400, "InvalidInput"),
        ({"fixed_ips": [{"nonsense": 1}]}, 400, "HTTPBadRequest"),
        ({"fixed_ips": "10.0.0.9"}, 400, "HTTPBadRequest"),
        ({"security_groups": [nobody]}, 404, "SecurityGroupNotFound"),
        ({"security_groups": [foreign["id"]]}, 404, "SecurityGroupNotFound"),
        ({"security_groups": ["default"]}, 400, "HTTPBadRequest"),
        ({"port_security_enabled": False, "security_groups": [foreign["id"]]}, 404, "SecurityGroupNotFound"),
        ({"allowed_address_pairs": [{"mac_address": "fa:16:3e:00:00:02"}]}, 400, "HTTPBadRequest"),
        ({"allowed_address_pairs": [{"ip_address": f"10.7.0.{n}"} for n in range(11)]}, 400, "AddressPairsExhausted"),
        (
            {"port_security_enabled": False, "allowed_address_pairs": [{"ip_address": "10.7.0.1"}]},
            409,
            "AddressPairAndPortSecurityRequired",
        ),
        ({"binding:host_id": "h"}, 403, "PolicyNotAuthorized"),
        ({"binding:vnic_type": "direct"}, 400, "HTTPBadRequest"),
        ({"network_id": nobody}, 404, "NetworkNotFound"),
        ({"status": "ACTIVE"}, 400, "HTTPBadRequest"),
        ({"nonsense": 1}, 400, "HTTPBadRequest"),
        ({"dns_name": "not a name"}, 400, "HTTPBadRequest"),
    ):
        response = await member.call("POST", "/v2.0/ports", {"port": {"network_id": network["id"], **fields}})
        assert (response.status_code, await _error(response)) == (status, kind), (fields, response.text)
    assert len((await member.get("/v2.0/ports"))["ports"]) == 2
    assert (await member.get("/v2.0/quotas/p1/details"))["quota"]["port"]["used"] == 2


async def test_no_port_security_means_no_groups(member):
    network = await member.network()
    port = await member.port(network, port_security_enabled=False)
    assert (port["security_groups"], port["port_security_enabled"], port["fixed_ips"]) == ([], False, [])
    guarded = await member.port(network)
    path = f"/v2.0/ports/{guarded['id']}"
    response = await member.call("PUT", path, {"port": {"port_security_enabled": False}})
    assert (response.status_code, await _error(response)) == (409, "PortSecurityPortHasSecurityGroup")
    changed = await member.put(path, {"port": {"port_security_enabled": False, "security_groups": []}})
    assert changed["port"]["security_groups"] == []


async def test_an_update_of_a_port(member, admin):
    network = await member.network()
    subnet = await member.subnet(network)
    port = await member.port(network)
    path = f"/v2.0/ports/{port['id']}"
    fields = {
        "fixed_ips": [{"subnet_id": subnet["id"]}, {"ip_address": "10.0.0.40"}],
        "name": "n",
        "admin_state_up": False,
    }
    changed = (await member.put(path, {"port": fields}))["port"]
    assert [one["ip_address"] for one in changed["fixed_ips"]] == ["10.0.0.3", "10.0.0.40"]
    assert (changed["name"], changed["admin_state_up"]) == ("n", False)
    options = [{"opt_name": "mtu", "opt_value": "1"}, {"opt_name": "x", "opt_value": "2"}]
    await member.put(path, {"port": {"extra_dhcp_opts": options}})
    changed = (await member.put(path, {"port": {"extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": None}]}}))["port"]
    assert [one["opt_name"] for one in changed["extra_dhcp_opts"]] == ["x"]
    await member.put(path, {"port": {"extra_dhcp_opts": [{"opt_name": "bootfile-name", "opt_value": " "}]}}, 400)
    await member.put(path, {"port": {"mac_address": "fa:16:3e:00:00:09"}}, 403)
    moved = (await admin.put(path, {"port": {"mac_address": "fa:16:3e:00:00:09", "binding:host_id": "h"}}))["port"]
    assert (moved["mac_address"], moved["binding:vif_type"]) == ("fa:16:3e:00:00:09", "bridge")
    response = await admin.call("PUT", path, {"port": {"mac_address": "fa:16:3e:00:00:0a"}})
    assert (response.status_code, await _error(response)) == (409, "PortBound")
    for fields in ({"network_id": network["id"]}, {"tenant_id": "p2"}, {"status": "ACTIVE"}, {"tags": []}):
        await admin.put(path, {"port": fields}, 400)
    response = await member.call("PUT", path, {"port": {"fixed_ips": [{"ip_address": "10.0.0.2"}]}})
    assert (response.status_code, await _error(response)) == (409, "IpAddressAlreadyAllocated")
    kept = (await member.get(path))["port"]["fixed_ips"]
    assert [one["ip_address"] for one in kept] == ["10.0.0.3", "10.0.0.40"]


async def test_ports_on_a_shared_network(admin, member, other):
    network = await admin.network(shared=True)
    subnet = await admin.subnet(network)
    port = await member.port(network, fixed_ips=[{"subnet_id": subnet["id"]}])
    await other.get(f"/v2.0/ports/{port['id']}", 404)
    await other.delete(f"/v2.0/ports/{port['id']}", 404)
    for fields in (
        {"mac_address": "fa:16:3e:00:00:01"},
        {"fixed_ips": [{"ip_address": "10.0.0.9"}]},
        {"port_security_enabled": False},
        {"device_owner": "network:dhcp"},
    ):
        await member.post("/v2.0/ports", {"port": {"network_id": network["id"], **fields}}, 403)


async def test_the_networks_owner_sees_and_deletes_ports_of_others(admin, member, other):
    network = (await admin.post("/v2.0/networks", {"network": {"project_id": "p1", "shared": True}}))["network"]
    port = await other.port(network)
    assert (await member.get(f"/v2.0/ports/{port['id']}"))["port"]["project_id"] == "p2"
    await member.put(f"/v2.0/ports/{port['id']}", {"port": {"name": "x"}}, 403)
    await member.delete(f"/v2.0/ports/{port['id']}")


async def test_bulk_makes_all_or_none(member):
    network = await member.network()
    await member.subnet(network)
    item = {"network_id": network["id"]}
    made = (await member.post("/v2.0/ports", {"ports": [{**item, "name": n, "tags": [n]} for n in "abc"]}))["ports"]
    assert [(one["name"], one["tags"]) for one in made] == [("a", ["a"]), ("b", ["b"]), ("c", ["c"])]
    twice = [{**item, "fixed_ips": [{"ip_address": "10.0.0.99"}]}] * 2
    await member.post("/v2.0/ports", {"ports": twice}, 409)
    assert len((await member.get("/v2.0/ports?network_id=" + network["id"]))["ports"]) == 4


async def test_lists_filter_sort_and_page(member):
    network = await member.network()
    subnet = await member.subnet(network)
    ports = [await member.port(network, name=f"p{n % 3}", device_id=f"d{n}") for n in range(6)]

    async def ids(query: str) -> list[str]:
        return [one["id"] for one in (await member.get(f"/v2.0/ports?device_owner=&{query}"))["ports"]]

    by = {port["device_id"]: port["id"] for port in ports}
    assert await ids("device_id=d1&device_id=d4&sort_key=device_id&sort_dir=desc") == [by["d4"], by["d1"]]
    assert await ids("fixed_ips=ip_address%3D" + ports[2]["fixed_ips"][0]["ip_address"]) == [by["d2"]]
    assert len(await ids(f"fixed_ips=subnet_id={subnet['id']}")) == 6
    assert len(await ids("fixed_ips=ip_address_substr=10.0.0.")) == 6
    assert await ids("mac_address=" + ports[3]["mac_address"].upper()) == [by["d3"]]
    assert await ids("name=p0&sort_key=name&sort_dir=asc&sort_key=device_id&sort_dir=asc") == [by["d0"], by["d3"]]
    assert len(await ids("security_groups=" + ports[0]["security_groups"][0])) == 6
    assert await ids("id=" + by["d5"] + "&id=nothing") == [by["d5"]]
    assert await ids("changed_since=2999-01-01T00:00:00Z") == []
    first = await member.get("/v2.0/ports?sort_key=device_id&sort_dir=asc&limit=2&device_owner=&fields=id")
    assert first["ports"] == [{"id": by["d0"]}, {"id": by["d1"]}]
    links = {link["rel"]: link["href"] for link in first["ports_links"]}
    assert links["next"].startswith("http://cloud/v2.0/ports?")
    second = await member.get(links["next"].removeprefix("http://cloud"))
    assert second["ports"] == [{"id": by["d2"]}, {"id": by["d3"]}]
    back = {link["rel"]: link["href"] for link in second["ports_links"]}["previous"]
    assert (await member.get(back.removeprefix("http://cloud")))["ports"] == first["ports"]
    for query in ("limit=-1", "limit=x", "sort_key=nonsense", "nonsense=1", "sort_key=id&sort_dir=up", "fixed_ips=x"):
        await member.get(f"/v2.0/ports?{query}", 400)
    await member.get("/v2.0/ports?marker=nothing&limit=1", 404)


@pytest.mark.parametrize("why", [Stale("others were first"), Transient("away", retry_after_s=0.2)])
async def test_who_is_told_to_come_again_is_told_when(member, monkeypatch, why):
    async def refuse(*_):
        raise why

    monkeypatch.setattr(Ports, "delete", refuse)
    response = await member.call("DELETE", "/v2.0/ports/any")
    assert (response.status_code, await _error(response)) == (503, "HTTPServiceUnavailable")
    assert response.headers["Retry-After"] == "1"

"""Subnets: requests and answers."""

import pytest

from muster.store import networks as network_store


def error(response) -> str:
    return response.json()["NeutronError"]["type"]


async def test_a_subnet_with_its_defaults(member):
    network = await member.network()
    subnet = await member.subnet(network, "10.0.0.7/24", name="s")
    assert subnet["cidr"] == "10.0.0.0/24"
    assert subnet["gateway_ip"] == "10.0.0.1"
    assert subnet["allocation_pools"] == [{"start": "10.0.0.2", "end": "10.0.0.254"}]
    assert (subnet["enable_dhcp"], subnet["dns_nameservers"], subnet["host_routes"]) == (True, [], [])
    assert (await member.get(f"/v2.0/networks/{network['id']}"))["network"]["subnets"] == [subnet["id"]]
    [port] = (await member.get("/v2.0/ports"))["ports"]
    assert (port["device_owner"], port["fixed_ips"][0]["ip_address"]) == ("network:dhcp", "10.0.0.2")
    response = await member.call("DELETE", f"/v2.0/ports/{port['id']}")
    assert (response.status_code, error(response)) == (409, "ServicePortInUse")
    await member.delete(f"/v2.0/subnets/{subnet['id']}")
    assert (await member.get("/v2.0/ports"))["ports"] == []


async def test_a_gateway_in_the_middle_splits_the_pools(member):
    network = await member.network()
    subnet = await member.subnet(network, gateway_ip="10.0.0.100")
    assert subnet["allocation_pools"] == [
        {"start": "10.0.0.1", "end": "10.0.0.99"},
        {"start": "10.0.0.101", "end": "10.0.0.254"},
    ]
    bare = await member.subnet(network, "10.1.0.0/24", gateway_ip=None, enable_dhcp=False)
    assert (bare["gateway_ip"], bare["allocation_pools"][0]["start"]) == (None, "10.1.0.1")


async def test_pools_may_be_told_in_any_order(member):
    pools = [{"start": "10.0.0.40", "end": "10.0.0.41"}, {"start": "10.0.0.20", "end": "10.0.0.20"}]
    network = await member.network()
    subnet = await member.subnet(network, allocation_pools=pools, enable_dhcp=False)
    assert sorted(subnet["allocation_pools"], key=lambda pool: pool["start"]) == pools[::-1]
    ports = [await member.port(network) for _ in range(3)]
    given = {port["fixed_ips"][0]["ip_address"] for port in ports}
    assert given == {"10.0.0.20", "10.0.0.40", "10.0.0.41"}
    response = await member.call("POST", "/v2.0/ports", {"port": {"network_id": network["id"]}})
    assert (response.status_code, error(response)) == (409, "IpAddressGenerationFailure")


@pytest.mark.parametrize(
    ("fields", "status", "kind"),
    [
        ({"allocation_pools": [{"start": "10.0.0.9", "end": "10.0.0.5"}]}, 400, "InvalidAllocationPool"),
        ({"allocation_pools": [{"start": "10.0.0.9", "end": "10.0.1.5"}]}, 400, "OutOfBoundsAllocationPool"),
        ({"allocation_pools": [{"start": "10.0.0.0", "end": "10.0.0.5"}]}, 400, "OutOfBoundsAllocationPool"),
        ({"allocation_pools": [{"start": "fd00::1", "end": "fd00::5"}]}, 400, "InvalidAllocationPool"),
        (
            {
                "allocation_pools": [
                    {"start": "10.0.0.50", "end": "10.0.0.60"},
                    {"start": "10.0.0.40", "end": "10.0.0.50"},
                ]
            },
            409,
            "OverlappingAllocationPools",
        ),
        ({"allocation_pools": [{"start": "10.0.0.1", "end": "10.0.0.5"}]}, 409, "GatewayConflictWithAllocationPools"),
        ({"allocation_pools": [{"start": "x", "end": "y"}]}, 400, "HTTPBadRequest"),
        ({"allocation_pools": [{"start": "10.0.0.1"}]}, 400, "HTTPBadRequest"),
        ({"gateway_ip": "fd00::1"}, 400, "InvalidInput"),
        ({"gateway_ip": "10.0.0.255"}, 400, "InvalidInput"),
        ({"dns_nameservers": ["fd00::1"]}, 400, "InvalidInput"),
        ({"dns_nameservers": [f"10.9.9.{n}" for n in range(6)]}, 400, "DNSNameServersExhausted"),
        ({"dns_nameservers": ["10.9.9.9", "10.9.9.9"]}, 400, "HTTPBadRequest"),
        ({"host_routes": [{"destination": "10.5.0.0/16", "nexthop": "fd00::1"}]}, 400, "InvalidInput"),
        ({"host_routes": [{"destination": "10.5.0.0/16"}]}, 400, "HTTPBadRequest"),
        ({"ipv6_ra_mode": "slaac"}, 400, "InvalidInput"),
        ({"ip_version": 6}, 400, "InvalidInput"),
        ({"ip_version": 5}, 400, "HTTPBadRequest"),
        ({"ip_version": 2**70}, 400, "HTTPBadRequest"),
        ({"cidr": "10.0.0.0/31"}, 400, "InvalidInput"),
        ({"cidr": "0.0.0.0/0"}, 400, "InvalidInput"),
        ({"cidr": "224.0.0.0/24"}, 400, "InvalidInput"),
        ({"cidr": "127.0.0.0/24"}, 400, "InvalidInput"),
        ({"cidr": "10.0.0.0"}, 400, "HTTPBadRequest"),
        ({"cidr": None}, 400, "HTTPBadRequest"),
        ({"use_default_subnetpool": True}, 400, "HTTPBadRequest"),
        ({"subnetpool_id": "11111111-1111-1111-1111-111111111111"}, 400, "HTTPBadRequest"),
        ({"service_types": ["nonsense"]}, 400, "InvalidSubnetServiceType"),
        ({"network_id": "11111111-1111-1111-1111-111111111111"}, 404, "NetworkNotFound"),
    ],
)
async def test_what_is_wrong_is_refused_and_changes_nothing(member, fields, status, kind):
    network = await member.network()
    body = {"network_id": network["id"], "cidr": "10.0.0.0/24", "ip_version": 4, **fields}
    response = await member.call("POST", "/v2.0/subnets", {"subnet": body})
    assert (response.status_code, error(response)) == (status, kind), response.text
    assert (await member.get("/v2.0/subnets"))["subnets"] == []
    assert (await member.get("/v2.0/ports"))["ports"] == []
    assert (await member.get("/v2.0/quotas/p1/details"))["quota"]["subnet"]["used"] == 0


@pytest.mark.parametrize(
    ("fields", "ok"),
    [
        ({"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}, True),
        ({"ipv6_address_mode": "dhcpv6-stateful"}, True),
        ({"ipv6_ra_mode": "slaac", "ipv6_address_mode": "dhcpv6-stateful"}, False),
        ({"ipv6_ra_mode": "slaac", "enable_dhcp": False}, False),
        ({"ipv6_address_mode": "slaac", "cidr": "fd00::/80"}, False),
        ({"ipv6_address_mode": "nonsense"}, False),
    ],
)
async def test_ipv6_modes(member, fields, ok):
    network = await member.network()
    body = {"network_id": network["id"], "cidr": "fd00::/64", "ip_version": 6, **fields}
    await member.post("/v2.0/subnets", {"subnet": body}, 201 if ok else 400)


async def test_ports_of_a_network_with_both_versions(member):
    network = await member.network()
    v4 = await member.subnet(network)
    stateful = await member.subnet(network, "fd01::/64", ipv6_address_mode="dhcpv6-stateful")
    port = await member.port(network)
    assert {one["subnet_id"] for one in port["fixed_ips"]} == {v4["id"], stateful["id"]}
    slaac = await member.subnet(network, "fd02::/64", ipv6_address_mode="slaac", ipv6_ra_mode="slaac")
    [address] = [
        one["ip_address"]
        for one in (await member.get(f"/v2.0/ports/{port['id']}"))["port"]["fixed_ips"]
        if one["subnet_id"] == slaac["id"]
    ]
    assert address.startswith("fd02::")
    assert address.endswith(port["mac_address"][-5:].replace(":", ""))
    await member.delete(f"/v2.0/subnets/{slaac['id']}")  # guests gave themselves those addresses
    assert len((await member.get(f"/v2.0/ports/{port['id']}"))["port"]["fixed_ips"]) == 2
    await member.delete(f"/v2.0/subnets/{stateful['id']}", 409)


async def test_overlapping_subnets_of_one_network_are_refused(member):
    network, elsewhere = await member.network(), await member.network()
    await member.subnet(network)
    await member.subnet(elsewhere)
    for cidr in ("10.0.0.0/24", "10.0.0.0/16", "10.0.0.128/25"):
        body = {"subnet": {"network_id": network["id"], "cidr": cidr, "ip_version": 4}}
        response = await member.call("POST", "/v2.0/subnets", body)
        assert (response.status_code, error(response)) == (400, "InvalidInput")


async def test_an_update_checks_the_whole(member):
    network = await member.network()
    subnet = await member.subnet(network)
    path = f"/v2.0/subnets/{subnet['id']}"
    fields = {
        "allocation_pools": [{"start": "10.0.0.20", "end": "10.0.0.30"}],
        "dns_nameservers": ["10.9.9.9", "10.9.9.8"],
        "host_routes": [{"destination": "10.5.0.0/16", "nexthop": "10.0.0.254"}],
        "gateway_ip": "10.0.0.254",
    }
    changed = (await member.put(path, {"subnet": fields}))["subnet"]
    assert {name: changed[name] for name in fields} == fields
    assert (await member.port(network))["fixed_ips"][0]["ip_address"] == "10.0.0.20"
    response = await member.call("PUT", path, {"subnet": {"gateway_ip": "10.0.0.25"}})
    assert (response.status_code, error(response)) == (409, "GatewayConflictWithAllocationPools")
    for fields in ({"cidr": "10.0.0.0/25"}, {"network_id": network["id"]}, {"ip_version": 4}, {"id": "x"}):
        await member.put(path, {"subnet": fields}, 400)
    assert (await member.get(path))["subnet"] == {**changed}


async def test_dhcp_can_be_turned_off_and_on(member):
    network = await member.network()
    subnet = await member.subnet(network)
    second = await member.subnet(network, "10.1.0.0/24")
    path = f"/v2.0/subnets/{subnet['id']}"

    async def dhcp_subnets() -> set[str]:
        ports = (await member.get("/v2.0/ports?device_owner=network:dhcp"))["ports"]
        return {one["subnet_id"] for port in ports for one in port["fixed_ips"]}

    assert await dhcp_subnets() == {subnet["id"], second["id"]}
    await member.put(path, {"subnet": {"enable_dhcp": False}})
    assert await dhcp_subnets() == {second["id"]}
    await member.put(f"/v2.0/subnets/{second['id']}", {"subnet": {"enable_dhcp": False}})
    assert (await member.get("/v2.0/ports"))["ports"] == []
    await member.put(path, {"subnet": {"enable_dhcp": True}})
    assert await dhcp_subnets() == {subnet["id"]}


async def test_who_may_make_subnets_where(member, other, admin):
    own, shared = await member.network(), await admin.network(shared=True)
    body = {"cidr": "10.0.0.0/24", "ip_version": 4}
    await other.post("/v2.0/subnets", {"subnet": {**body, "network_id": own["id"]}}, 404)
    await other.post("/v2.0/subnets", {"subnet": {**body, "network_id": shared["id"]}}, 403)
    subnet = await admin.subnet(shared)
    assert [one["id"] for one in (await other.get("/v2.0/subnets"))["subnets"]] == [subnet["id"]]
    await other.delete(f"/v2.0/subnets/{subnet['id']}", 403)
    mine = await member.subnet(own)
    await other.get(f"/v2.0/subnets/{mine['id']}", 404)


async def test_bulk_makes_all_or_none(member):
    network = await member.network()
    items = [{"network_id": network["id"], "cidr": f"10.{n}.0.0/24", "ip_version": 4} for n in range(3)]
    made = (await member.post("/v2.0/subnets", {"subnets": items}))["subnets"]
    assert [one["cidr"] for one in made] == ["10.0.0.0/24", "10.1.0.0/24", "10.2.0.0/24"]
    items = [{"network_id": network["id"], "cidr": cidr, "ip_version": 4} for cidr in ("10.7.0.0/24", "10.7.0.0/25")]
    await member.post("/v2.0/subnets", {"subnets": items}, 400)
    assert len((await member.get("/v2.0/subnets"))["subnets"]) == 3


async def test_availability_counts_addresses(member, admin):
    network = await member.network(name="n")
    await member.subnet(network)
    await member.subnet(network, "fd00::/64", enable_dhcp=False)
    await member.port(network)
    path = f"/v2.0/network-ip-availabilities/{network['id']}"
    found = (await admin.get(path))["network_ip_availability"]
    # Both subnets may be of the same moment, so their order says nothing.
    counted = sorted(
        (one["ip_version"], one["total_ips"] > 250, one["used_ips"]) for one in found["subnet_ip_availability"]
    )
    assert counted == [
        (4, True, 2),
        (6, True, 1),
    ]
    listed = await admin.get("/v2.0/network-ip-availabilities?ip_version=4&network_name=n")
    assert listed["network_ip_availabilities"][0]["total_ips"] == 253
    await member.get(path, 403)


async def test_a_subnet_whose_network_goes_meanwhile_is_not_found(member, monkeypatch):
    subnet = await member.subnet(await member.network())

    async def nothing(connection, network_ids):
        return {}

    monkeypatch.setattr(network_store, "read", nothing)
    for method, body in (("PUT", {"subnet": {"name": "n"}}), ("DELETE", None)):
        response = await member.call(method, f"/v2.0/subnets/{subnet['id']}", body)
        assert (response.status_code, error(response)) == (404, "SubnetNotFound")


async def test_ipv6_needs_its_least_mtu(member):
    """RFC 8200, section 5: no kernel takes an IPv6 address on a smaller link."""
    small = await member.network(mtu=1279)
    await member.subnet(small)
    body = {"network_id": small["id"], "cidr": "fd00:1::/64", "ip_version": 6}
    response = await member.call("POST", "/v2.0/subnets", {"subnet": body})
    assert (response.status_code, error(response)) == (409, "NetworkMTUSubnetConflict")
    assert len((await member.get(f"/v2.0/networks/{small['id']}"))["network"]["subnets"]) == 1
    path = f"/v2.0/networks/{small['id']}"
    await member.put(path, {"network": {"mtu": 1280}})
    await member.post("/v2.0/subnets", {"subnet": body})
    response = await member.call("PUT", path, {"network": {"mtu": 1279}})
    assert (response.status_code, error(response)) == (409, "NetworkMTUSubnetConflict")
    assert (await member.get(path))["network"]["mtu"] == 1280


async def test_subnets_are_listed_by_service_type(member):
    network = await member.network()
    made = {}
    for third, types in ((1, ["compute:nova"]), (2, ["network:dhcp", "compute:nova"]), (3, ["network:dhcp"]), (4, [])):
        subnet = await member.subnet(network, cidr=f"10.{third}.0.0/24", service_types=types)
        made[subnet["id"]] = types

    async def listed(query: str) -> list[list[str]]:
        found = (await member.get(f"/v2.0/subnets?{query}"))["subnets"]
        return sorted(made[one["id"]] for one in found)

    assert await listed("service_types=network:dhcp") == [["network:dhcp"], ["network:dhcp", "compute:nova"]]
    assert len(await listed("service_types=network:dhcp&service_types=compute:nova")) == 3
    assert await listed("service_types=compute") == []
    assert await listed("service_types=%25") == []

"""What hosts must hear of is noted, and what they need not is not."""

from muster.domain.specs import DhcpOption
from muster.store.specs import read_ports
from tests.conformance.store.compute_cloud import add_server


async def test_what_hosts_hear_of(cloud, member):
    network = await member.network()
    subnet = await member.subnet(network)
    about_network = ("network", frozenset({network["id"]}))
    assert about_network in cloud.outbox.taken()
    path = f"/v2.0/networks/{network['id']}"
    await member.put(path, {"network": {"name": "n", "description": "d"}})
    assert cloud.outbox.taken() == set()
    await member.put(path, {"network": {"mtu": 1400}})
    assert cloud.outbox.taken() == {about_network}
    await member.put(f"/v2.0/subnets/{subnet['id']}", {"subnet": {"dns_nameservers": ["10.9.9.9"]}})
    assert cloud.outbox.taken() == {about_network}

    group = (await member.post("/v2.0/security-groups", {"security_group": {"name": "g"}}))["security_group"]
    about_group = ("group", frozenset({group["id"]}))
    rule = {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp"}
    assert cloud.outbox.taken() == set()
    made = (await member.post("/v2.0/security-group-rules", {"security_group_rule": rule}))["security_group_rule"]
    assert cloud.outbox.taken() == {about_group}
    await member.delete(f"/v2.0/security-group-rules/{made['id']}")
    assert cloud.outbox.taken() == {about_group}
    await member.put(f"/v2.0/security-groups/{group['id']}", {"security_group": {"stateful": False}})
    assert cloud.outbox.taken() == {about_group}

    async with cloud.database.write() as connection:
        await add_server(connection, "server", project_id="p1")
    port = await member.port(network, device_owner="compute:nova", device_id="server", security_groups=[group["id"]])
    about_members = ("members", frozenset({group["id"]}))
    assert cloud.outbox.taken() == {about_members}
    path = f"/v2.0/ports/{port['id']}"
    about_server = ("server", frozenset({"server"}))
    await member.put(path, {"port": {"name": "p"}})
    assert cloud.outbox.taken() == set()
    await member.put(path, {"port": {"admin_state_up": False}})
    assert cloud.outbox.taken() == {about_server}
    await member.put(path, {"port": {"fixed_ips": [{"ip_address": "10.0.0.99"}]}})
    assert cloud.outbox.taken() == {about_server, about_members}
    await member.put(path, {"port": {"security_groups": []}})
    assert cloud.outbox.taken() == {about_server, about_members}
    options = [
        {"opt_name": "bootfile-name", "opt_value": "x"},
        {"opt_name": "router", "opt_value": "", "ip_version": 4},
    ]
    await member.put(path, {"port": {"extra_dhcp_opts": options}})
    assert cloud.outbox.taken() == {about_server}
    async with cloud.database.read() as connection:
        [told] = (await read_ports(connection, ["server"]))["server"]
    assert told.dhcp_options == (DhcpOption("bootfile-name", "x"), DhcpOption("router", ""))
    await member.delete(path)
    assert cloud.outbox.taken() == {about_server}


async def test_a_port_that_only_says_to_be_a_servers_is_no_news_of_it(cloud, admin, other):
    """Anybody may write the id of another project's server into a port."""
    async with cloud.database.write() as connection:
        await add_server(connection, "server", project_id="p1")
    network = await admin.network(shared=True)
    port = await other.port(network, device_owner="compute:nova", device_id="server")
    path = f"/v2.0/ports/{port['id']}"
    cloud.outbox.taken()
    await other.put(path, {"port": {"admin_state_up": False}})
    await other.delete(path)
    assert ("server", frozenset({"server"})) not in cloud.outbox.taken()


async def test_a_port_bound_to_an_unknown_host_keeps_no_change_from_its_network(cloud, member, admin):
    network = await member.network()
    await admin.port(network, **{"binding:host_id": "no-such-host"})
    path = f"/v2.0/networks/{network['id']}"
    assert (await member.put(path, {"network": {"mtu": 1400}}))["network"]["mtu"] == 1400
    await member.subnet(network)

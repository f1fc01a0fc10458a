"""Interfaces of servers that exist: attached, shown, detached; security groups; and what their hosts hear of it."""

import asyncio
from collections.abc import Collection
from typing import Any

import pytest
from msgspec import UNSET
from sqlalchemy import func, select

from muster.base.ids import new_uuid
from muster.domain.port_changes import PortChanges
from muster.domain.ports import WantedIp
from muster.domain.security_groups import NewSecurityGroup
from muster.store.addresses import addresses
from muster.store.server_ports import read_port_ids
from muster.store.servers import servers
from muster.store.specs import read_ports
from muster.store.usages import usages

from ..administration.conftest import P1, P2
from .conftest import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOWHERE = "11111111-2222-3333-4444-555555555555"


async def _attach(scene: Scene, server_id: str, v: str = "2.70", **fields: Any) -> dict[str, Any]:
    body = {"interfaceAttachment": fields}
    return (await scene.member.post(f"/servers/{server_id}/os-interface", body, v=v))["interfaceAttachment"]


async def _refused(scene: Scene, server_id: str, status: int, words: str, v: str = "2.70", **fields: Any) -> None:
    before = await _ports(scene, server_id)
    body = {"interfaceAttachment": fields}
    got, _, message = await scene.member.refusal("POST", f"/servers/{server_id}/os-interface", body, v=v)
    assert (got, words in message) == (status, True), (got, message)
    assert await _ports(scene, server_id) == before


async def _ports(scene: Scene, server_id: str) -> list[str]:
    async with scene.bed.database.read() as connection:
        return sorted((await read_port_ids(connection, [server_id])).get(server_id, []))


async def _generation(scene: Scene, server_id: str) -> int:
    async with scene.bed.database.read() as connection:
        statement = select(servers.c.generation).where(servers.c.id == server_id)
        return int((await connection.execute(statement)).scalar_one())


async def _scalar(scene: Scene, statement: Any) -> Any:
    async with scene.bed.database.read() as connection:
        return (await connection.execute(statement)).scalar()


async def test_attach_by_network_and_detach(scene: Scene) -> None:
    server_id = await scene.server()
    network_id = await scene.network(name="second", cidr="10.20.0.0/24")
    generation, used = await _generation(scene, server_id), await _port_usage(scene)
    shown = await _attach(scene, server_id, net_id=network_id, tag="back")
    assert (shown["net_id"], shown["tag"]) == (network_id, "back")
    [fixed_ip] = shown["fixed_ips"]
    row = await scene.port_row(shown["port_id"])
    assert (row.device_id, row.device_owner, row.project_id) == (server_id, "compute:nova", P1)
    assert row.binding_host_id.startswith("sim-")
    assert await _generation(scene, server_id) == generation + 1
    assert await _port_usage(scene) == used + 1
    found = (await scene.reader.get(f"/servers/{server_id}/os-interface", v="2.70"))["interfaceAttachments"]
    assert [one["tag"] for one in found] == [None, "back"]
    one = (await scene.reader.get(f"/servers/{server_id}/os-interface/{shown['port_id']}"))["interfaceAttachment"]
    assert "tag" not in one
    assert (await scene.reader.get(f"/servers/{server_id}/ips/second"))["second"] == [
        {"version": 4, "addr": fixed_ip["ip_address"]}
    ]
    assert set((await scene.reader.get(f"/servers/{server_id}/ips"))["addresses"]) == {"default", "second"}
    assert (await scene.reader.refusal("GET", f"/servers/{server_id}/ips/third"))[0] == 404
    # The host has plugged it: its answer makes the port active.
    await _until_active(scene, shown["port_id"])

    await scene.member.delete(f"/servers/{server_id}/os-interface/{shown['port_id']}", status=202)
    assert await scene.port_row(shown["port_id"]) is None
    assert await _generation(scene, server_id) == generation + 2
    assert await _port_usage(scene) == used
    assert await _scalar(scene, select(func.count()).where(addresses.c.port_id == shown["port_id"])) == 0
    assert (await scene.reader.refusal("GET", f"/servers/{server_id}/os-interface/{shown['port_id']}"))[0] == 404
    got = await scene.member.refusal("DELETE", f"/servers/{server_id}/os-interface/{shown['port_id']}")
    assert got[0] == 404
    names = [one["action"] for one in await _actions(scene, server_id)]
    assert names == ["detach_interface", "attach_interface", "create"]


async def test_interfaces_keep_the_order_in_which_they_were_asked_for(scene: Scene) -> None:
    nets = [await scene.network(cidr=f"10.{30 + n}.0.0/24") for n in range(2)]
    old = await scene.port(nets[1])
    newer = await scene.port(nets[0])
    asked = [{"uuid": nets[1]}, {"port": newer}, {"uuid": nets[0]}, {"uuid": nets[1]}, {"port": old}, {"uuid": nets[0]}]
    server_id = await scene.server(networks=asked)
    wanted = [nets[1], newer, nets[0], nets[1], old, nets[0]]

    async def order() -> list[str]:
        async with scene.bed.database.read() as connection:
            told_to_host = (await read_ports(connection, [server_id]))[server_id]
        shown = (await scene.reader.get(f"/servers/{server_id}/os-interface"))["interfaceAttachments"]
        assert [port.id for port in told_to_host] == [one["port_id"] for one in shown]
        return [one["port_id"] if one["port_id"] in (old, newer) else one["net_id"] for one in shown]

    assert await order() == wanted
    # What is plugged later comes behind the others, also into a gap.
    await scene.member.delete(f"/servers/{server_id}/os-interface/{newer}", status=202)
    wanted.remove(newer)
    await _attach(scene, server_id, port_id=newer)
    await _attach(scene, server_id, net_id=nets[1])
    assert await order() == [*wanted, newer, nets[1]]


async def test_a_port_of_the_user_is_unbound_by_detaching(scene: Scene) -> None:
    server_id = await scene.server()
    network_id = await scene.network(cidr="10.21.0.0/24")
    port_id = await scene.port(network_id, fixed_ips=(WantedIp(ip_address="10.21.0.50"),))
    shown = await _attach(scene, server_id, port_id=port_id)
    assert shown["fixed_ips"][0]["ip_address"] == "10.21.0.50"
    await _refused(scene, server_id, 409, "still in use", port_id=port_id)
    await scene.member.delete(f"/servers/{server_id}/os-interface/{port_id}", status=202)
    row = await scene.port_row(port_id)
    assert (row.device_id, row.device_owner, row.binding_host_id, row.status) == ("", "", "", "DOWN")
    # Attached again, it outlives the server.
    await _attach(scene, server_id, port_id=port_id)
    made = (await _attach(scene, server_id, net_id=network_id, fixed_ips=[{"ip_address": "10.21.0.60"}]))["port_id"]
    await scene.bed.gone(scene.member, server_id)
    assert (await scene.port_row(port_id)).device_id == ""
    assert await scene.port_row(made) is None


async def test_what_cannot_be_attached(scene: Scene) -> None:
    server_id = await scene.server()
    network_id = await scene.network(cidr="10.22.0.0/29")
    hidden = await scene.network(P2, cidr="10.23.0.0/24")
    foreign = await scene.port(hidden, P2)
    used = await scene.port(network_id, device_id="x", fixed_ips=(WantedIp(ip_address="10.22.0.3"),))
    spare = await scene.port(network_id, fixed_ips=(WantedIp(ip_address="10.22.0.4"),))
    await _refused(scene, server_id, 409, "still in use", port_id=used)
    await _refused(scene, server_id, 404, "could not be found", port_id=foreign)
    await _refused(scene, server_id, 404, "could not be found", port_id=NOWHERE)
    await _refused(scene, server_id, 404, "could not be found", net_id=hidden)
    await _refused(scene, server_id, 404, "could not be found", net_id=NOWHERE)
    await _refused(scene, server_id, 409, "in use", net_id=network_id, fixed_ips=[{"ip_address": "10.22.0.3"}])
    await _refused(scene, server_id, 409, "", net_id=network_id, fixed_ips=[{"ip_address": "10.22.0.4"}])
    await _refused(scene, server_id, 400, "not a valid IP", net_id=network_id, fixed_ips=[{"ip_address": "192.0.2.1"}])
    await _refused(scene, server_id, 400, "Must not input both", net_id=network_id, port_id=spare)
    await _refused(
        scene, server_id, 400, "Must input network_id", port_id=spare, fixed_ips=[{"ip_address": "10.22.0.9"}]
    )
    await _refused(scene, server_id, 400, "'tag' was unexpected", v="2.48", net_id=network_id, tag="a")
    await _refused(scene, server_id, 400, "Multiple possible networks")
    for fields in (
        {"net_id": "x"},
        {"port_id": 5},
        {"fixed_ips": []},
        {"net_id": network_id, "fixed_ips": [{"ip_address": "x"}]},
        {"net_id": network_id, "fixed_ips": [{"ip_address": "10.22.0.5", "subnet_id": "x"}]},
        {"net_id": network_id, "tag": "a/b"},
        {"colour": "red"},
    ):
        await _refused(scene, server_id, 400, "", **fields)
    for _ in range(4):  # .2, .5, .6 are left; the gateway has .1
        last = await scene.member.call(
            "POST", f"/servers/{server_id}/os-interface", {"interfaceAttachment": {"net_id": network_id}}
        )
    assert (last.status_code, "No fixed IP addresses available" in last.text) == (400, True)


async def test_many_at_once_are_one_batch_each_way(scene: Scene) -> None:
    server_ids = [await scene.server() for _ in range(3)]
    network_id = await scene.network(cidr="10.24.0.0/24")
    one_port = await scene.port(network_id)
    attaching = [_attach(scene, server_id, net_id=network_id) for server_id in server_ids for _ in range(4)]
    body = {"interfaceAttachment": {"port_id": one_port}}
    racing = [scene.member.call("POST", f"/servers/{server_id}/os-interface", body) for server_id in server_ids]
    made, raced = await asyncio.gather(asyncio.gather(*attaching), asyncio.gather(*racing))
    assert len({one["fixed_ips"][0]["ip_address"] for one in made}) == 12
    assert sorted(response.status_code for response in raced) == [200, 409, 409]
    per_server = [len(await _ports(scene, server_id)) for server_id in server_ids]
    assert sum(per_server) == 3 + 12 + 1
    pairs = [(server_id, port_id) for server_id in server_ids for port_id in await _ports(scene, server_id)]
    gone = [scene.member.delete(f"/servers/{server_id}/os-interface/{port}", status=202) for server_id, port in pairs]
    await asyncio.gather(*gone)
    assert [await _ports(scene, server_id) for server_id in server_ids] == [[], [], []]
    assert (await scene.port_row(one_port)).device_id == ""


async def test_nobody_puts_a_port_into_another_projects_server(scene: Scene) -> None:
    """A port of another project that names the server is not plugged into it, shown with it, or deleted with it."""
    server_id = await scene.server()
    mine = await _ports(scene, server_id)
    foreign = await scene.network(P2, cidr="10.28.0.0/24")
    port_id = await scene.port(foreign, P2, device_id=server_id, device_owner="compute:nova")
    assert await _ports(scene, server_id) == mine
    async with scene.bed.database.read() as connection:
        assert [spec.id for spec in (await read_ports(connection, [server_id]))[server_id]] == mine
    shown = (await scene.member.get(f"/servers/{server_id}/os-interface"))["interfaceAttachments"]
    assert [one["port_id"] for one in shown] == mine
    assert "net" not in (await scene.show(server_id))["addresses"]
    assert (await scene.member.get("/servers?ip=10.28.0"))["servers"] == []
    await scene.bed.gone(scene.member, server_id)
    assert await scene.port_row(port_id) is not None


async def test_a_server_gets_and_loses_single_addresses(scene: Scene) -> None:
    server_id = await scene.server()
    network_id = await scene.network(name="alias", cidr="10.21.0.0/29")  # five addresses and the gateway's
    port_id = (await _attach(scene, server_id, net_id=network_id))["port_id"]
    path = f"/servers/{server_id}/action"
    generation = await _generation(scene, server_id)

    for _ in range(4):
        await _act(scene, server_id, {"addFixedIp": {"networkId": network_id}})
    shown = (await scene.show(server_id))["addresses"]["alias"]
    assert {one["addr"] for one in shown} == {f"10.21.0.{number}" for number in range(2, 7)}
    assert {one["OS-EXT-IPS-MAC:mac_addr"] for one in shown} == {(await scene.port_row(port_id)).mac_address}
    assert await _generation(scene, server_id) == generation + 4
    status, _, message = await scene.member.refusal("POST", path, {"addFixedIp": {"networkId": network_id}})
    assert (status, message) == (400, f"No fixed IP addresses available for network: {network_id}")

    await _act(scene, server_id, {"removeFixedIp": {"address": "10.21.0.3"}})
    left = {"10.21.0.2", "10.21.0.4", "10.21.0.5", "10.21.0.6"}
    assert {one["addr"] for one in (await scene.show(server_id))["addresses"]["alias"]} == left
    assert await _generation(scene, server_id) == generation + 5
    async with scene.bed.database.read() as connection:
        [spec] = [one for one in (await read_ports(connection, [server_id]))[server_id] if one.id == port_id]
    assert {one.ip_address for one in spec.fixed_ips} == left  # what its host hears

    remove = {"removeFixedIp": {"address": "10.21.0.3"}}
    for client, body, version, expected in (
        (scene.member, remove, "2.43", (400, f"Instance {server_id} doesn't have fixed IP '10.21.0.3'.")),
        (scene.member, {"addFixedIp": {"networkId": NOWHERE}}, "2.43", (404, "could not be found")),
        (scene.member, {"addFixedIp": {"networkId": "x"}}, "2.43", (400, "networkId")),
        (scene.member, {"removeFixedIp": {"address": "x"}}, "2.43", (400, "address")),
        (scene.member, {"removeFixedIp": {"address": "10.21.0.2", "x": 1}}, "2.43", (400, "x")),
        (scene.member, {"removeFixedIp": {"address": "10.21.0.2"}}, "2.44", (404, "could not be found")),
        (scene.other, {"removeFixedIp": {"address": "10.21.0.2"}}, "2.43", (404, "could not be found")),
        (scene.other, {"addFixedIp": {"networkId": network_id}}, "2.43", (404, "could not be found")),
    ):
        status, _, message = await client.refusal("POST", path, body, v=version)
        assert (status, expected[1] in message) == (expected[0], True), (body, status, message)
    await _act(scene, server_id, {"lock": None})
    status, _, _ = await scene.member.refusal("POST", path, {"removeFixedIp": {"address": "10.21.0.2"}})
    assert status == 409
    assert {one["addr"] for one in (await scene.show(server_id))["addresses"]["alias"]} == left


async def test_security_groups_of_a_server(scene: Scene) -> None:
    server_id = await scene.server()
    network_id = await scene.network(cidr="10.25.0.0/24")
    await _attach(scene, server_id, net_id=network_id)
    group_id = await _group(scene, "extra")
    generation = await _generation(scene, server_id)
    await _act(scene, server_id, {"addSecurityGroup": {"name": "extra"}})
    assert await _generation(scene, server_id) == generation + 1
    assert [one["name"] for one in (await scene.show(server_id))["security_groups"]] == ["default", "extra"]
    async with scene.bed.database.read() as connection:
        specs = (await read_ports(connection, [server_id]))[server_id]
    assert all(group_id in spec.security_group_ids for spec in specs)
    await _act(scene, server_id, {"addSecurityGroup": {"name": group_id}})  # once more changes nothing
    await _act(scene, server_id, {"removeSecurityGroup": {"name": "extra"}})
    assert [one["name"] for one in (await scene.show(server_id))["security_groups"]] == ["default"]
    path = f"/servers/{server_id}/action"
    foreign = await _group(scene, "foreign", P2)
    for name in ("extra", "nowhere", foreign):
        got = await scene.member.refusal("POST", path, {"removeSecurityGroup": {"name": name}})
        assert got[0] == 404, name
    assert (await scene.member.refusal("POST", path, {"addSecurityGroup": {"name": foreign}}))[0] == 404
    bare = await scene.server("2.37", networks="none")
    path = f"/servers/{bare}/action"
    assert (await scene.member.refusal("POST", path, {"addSecurityGroup": {"name": "extra"}}))[0] == 404
    unguarded = await scene.network(cidr="10.26.0.0/24", port_security_enabled=False)
    await _attach(scene, bare, net_id=unguarded)
    got, _, message = await scene.member.refusal("POST", path, {"addSecurityGroup": {"name": "extra"}})
    assert (got, "port_security_enabled" in message) == (400, True)


async def test_what_the_network_api_does_to_a_servers_port_reaches_its_host(scene: Scene) -> None:
    """The spec that travels has a higher generation, and a note for the host was written."""
    network_id = await scene.network(cidr="10.27.0.0/24")
    server_id = await scene.server(networks=[{"uuid": network_id}, {"uuid": network_id}])
    first, second = await _ports(scene, server_id)
    group_id = await _group(scene, "late")
    changes = [
        PortChanges(fixed_ips=(WantedIp(ip_address="10.27.0.99"),)),
        PortChanges(security_group_ids=(group_id,)),
        PortChanges(port_security_enabled=False, security_group_ids=()),
        PortChanges(admin_state_up=False),
    ]
    for change in changes:
        before, notes = await _generation(scene, server_id), await _notes(scene)
        await scene.cloud.network.ports.update(scene.root, first, change)
        assert await _generation(scene, server_id) == before + 1, change
        assert await _notes(scene) > notes
    before = await _generation(scene, server_id)
    await scene.cloud.network.ports.update(scene.root, first, PortChanges(name="x", device_id=UNSET))
    assert await _generation(scene, server_id) == before
    async with scene.bed.database.read() as connection:
        specs = {spec.id: spec for spec in (await read_ports(connection, [server_id]))[server_id]}
    assert [ip.ip_address for ip in specs[first].fixed_ips] == ["10.27.0.99"]
    assert not specs[first].admin_state_up
    await scene.cloud.network.ports.delete(scene.root, second)
    assert await _generation(scene, server_id) == before + 1
    assert await _ports(scene, server_id) == [first]
    await scene.active(server_id)
    assert await scene.member.get(f"/servers/{server_id}/os-interface")


async def _until_active(scene: Scene, port_id: str) -> None:
    async with asyncio.timeout(300):
        while (await scene.port_row(port_id)).status != "ACTIVE":
            await asyncio.sleep(0.02)


async def _actions(scene: Scene, server_id: str) -> Collection[dict[str, Any]]:
    return (await scene.reader.get(f"/servers/{server_id}/os-instance-actions"))["instanceActions"]


async def _act(scene: Scene, server_id: str, body: Any) -> None:
    await scene.member.post(f"/servers/{server_id}/action", body, status=202)


async def _port_usage(scene: Scene) -> int:
    statement = select(usages.c.in_use).where(usages.c.project_id == P1, usages.c.resource == "port")
    return int(await _scalar(scene, statement) or 0)


async def _notes(scene: Scene) -> int:
    """How many notes the outbox has ever had, roughly: the highest number of desired changes of any host."""
    from muster.store.hosts import hosts

    return int(await _scalar(scene, select(func.sum(hosts.c.desired_seq))))


async def _group(scene: Scene, name: str, project_id: str = P1) -> str:
    draft = NewSecurityGroup(id=new_uuid(), project_id=project_id, name=name)
    [group] = await scene.cloud.network.security_groups.create(scene.root, [draft])
    return group.id

"""`POST /servers`: what it takes, what it refuses with which words, and that a refusal leaves nothing."""

import asyncio
import time

import pytest
from sqlalchemy import select, update

from muster.base.ids import new_uuid
from muster.domain.ports import WantedIp
from muster.domain.quotas import UNLIMITED
from muster.domain.security_groups import NewSecurityGroup
from muster.domain.specs import InjectedFile
from muster.host.metadata.openstack import Description
from muster.host.metadata.openstack import files as files_of
from muster.store import quotas as quota_store
from muster.store import server_lookups as lookup_store
from muster.store.hosts import hosts
from muster.store.images import images
from muster.store.servers import read_by_ids
from muster.store.specs import server_spec

from ..administration.conftest import P1, P2
from .conftest import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOWHERE = "11111111-2222-3333-4444-555555555555"


async def _image(scene: Scene, **changes: object) -> str:
    image_id = new_uuid()
    row = {
        "id": image_id,
        "owner": P1,
        "status": "active",
        "visibility": "public",
        "disk_format": "raw",
        "size": 512,
        "os_hash_algo": "sha512",
        "os_hash_value": "0" * 128,
        "created_at": time.time(),
        "updated_at": time.time(),
        **changes,
    }
    async with scene.bed.database.write() as connection:
        await connection.execute(images.insert(), [row])
    return image_id


async def test_everything_that_can_be_asked_for(scene: Scene) -> None:
    network_id = await scene.network(name="everything")
    made = await scene.create(
        "2.90",
        name="full",
        networks=[{"uuid": network_id, "fixed_ip": "10.9.0.77", "tag": "front"}],
        metadata={"a": "b"},
        user_data="aGVsbG8=",
        config_drive="true",
        description="what for",
        tags=["x", "y"],
        hostname="own-name",
        accessIPv4="192.0.2.1",
        accessIPv6="2001:db8::1",
        adminPass="secret",
        security_groups=[{"name": "default"}],
        availability_zone="nova",
        block_device_mapping_v2=[],
        **{"OS-DCF:diskConfig": "AUTO"},
    )
    assert made["adminPass"] == "secret"
    assert made["OS-DCF:diskConfig"] == "AUTO"
    assert made["security_groups"] == [{"name": "default"}]
    server = await scene.until(made["id"], "ACTIVE")
    assert server["name"] == "full"
    assert server["description"] == "what for"
    assert server["metadata"] == {"a": "b"}
    assert server["tags"] == ["x", "y"]
    assert server["config_drive"] == "True"
    assert server["OS-EXT-SRV-ATTR:hostname"] == "own-name"
    assert server["OS-EXT-SRV-ATTR:user_data"] == "aGVsbG8="
    assert (server["accessIPv4"], server["accessIPv6"]) == ("192.0.2.1", "2001:db8::1")
    assert server["OS-EXT-AZ:availability_zone"] == "nova"
    assert server["security_groups"] == [{"name": "default"}]
    assert [one["addr"] for one in server["addresses"]["everything"]] == ["10.9.0.77"]
    [interface] = (await scene.member.get(f"/servers/{made['id']}/os-interface", v="2.70"))["interfaceAttachments"]
    assert interface["tag"] == "front"
    assert interface["port_state"] == "ACTIVE"
    assert "tag" not in (await scene.member.get(f"/servers/{made['id']}/os-interface"))["interfaceAttachments"][0]


async def test_a_host_name_with_a_domain(scene: Scene) -> None:
    server_id = await scene.server("2.94", name="db", hostname="db.internal.example")
    shown = await scene.show(server_id, v="2.96")
    assert (shown["OS-EXT-SRV-ATTR:hostname"], shown["pinned_availability_zone"]) == ("db.internal.example", None)
    [attached] = (await scene.member.get(f"/servers/{server_id}/os-interface"))["interfaceAttachments"]
    assert (await scene.port_row(attached["port_id"])).dns_name == "db"


async def test_many_at_once(scene: Scene) -> None:
    body = await scene.bed.server_body(name="many", min_count="2", max_count=3, return_reservation_id="True")
    answer = await scene.member.post("/servers", body, status=202)
    assert set(answer) == {"reservation_id"}
    found = await scene.member.get(f"/servers?reservation_id={answer['reservation_id']}&sort_key=display_name")
    assert [one["name"] for one in found["servers"]] == ["many-3", "many-2", "many-1"]
    hostnames = [(await scene.show(one["id"]))["OS-EXT-SRV-ATTR:hostname"] for one in found["servers"]]
    assert hostnames == ["many-3", "many-2", "many-1"]


async def test_groups_by_name_and_id(scene: Scene) -> None:
    group = await _group(scene, "web")
    twice = [await _group(scene, "twice") for _ in range(2)]
    foreign = await _group(scene, "foreign", P2)
    groups = [{"name": "web"}, {"name": twice[0]}, {"name": "default"}]
    made = await scene.create(security_groups=groups)
    assert [one["name"] for one in made["security_groups"]] == ["web", twice[0], "default"]
    server = await scene.until(made["id"], "ACTIVE")
    assert [one["name"] for one in server["security_groups"]] == ["web", "twice", "default"]
    found = (await scene.member.get(f"/servers/{made['id']}/os-security-groups"))["security_groups"]
    assert [one["name"] for one in found] == ["default", "twice", "web"]
    assert group in {one["id"] for one in found}
    default = found[0]
    assert {rule["group"].get("name") for rule in default["rules"]} == {"default"}
    await scene.refused(400, "not found", security_groups=[{"name": "nowhere"}])
    await scene.refused(400, "not found", security_groups=[{"name": foreign}])
    await scene.refused(409, "Multiple security groups", security_groups=[{"name": "twice"}])


async def test_ports_of_the_user(scene: Scene) -> None:
    network_id = await scene.network(cidr="10.10.0.0/24")
    port_id = await scene.port(network_id)
    used, bare = await scene.port(network_id, device_id="x"), await scene.port(network_id, fixed_ips=())
    foreign = await scene.port(await scene.network(P2, cidr="10.11.0.0/24"), P2)
    server_id = await scene.server("2.42", networks=[{"port": port_id, "tag": "mine"}])
    row = await scene.port_row(port_id)
    assert (row.device_id, row.device_owner, row.status) == (server_id, "compute:nova", "ACTIVE")
    assert row.binding_host_id.startswith("sim-")
    await scene.refused(409, "still in use", networks=[{"port": port_id}])
    await scene.refused(409, "still in use", networks=[{"port": used}])
    await scene.refused(400, "requires a FixedIP", networks=[{"port": bare}])
    await scene.refused(400, "could not be found", networks=[{"port": foreign}])
    await scene.refused(400, "could not be found", networks=[{"port": NOWHERE}])
    await scene.refused(400, "specified twice", networks=[{"port": bare}, {"port": bare}])
    await scene.refused(400, "cannot be used with port", networks=[{"port": bare, "fixed_ip": "10.10.0.9"}])
    await scene.refused(400, "single configured port ID", networks=[{"port": bare}], max_count=2)
    await scene.bed.gone(scene.member, server_id)
    row = await scene.port_row(port_id)
    assert (row.device_id, row.device_owner, row.status, row.binding_host_id) == ("", "", "DOWN", "")


async def test_networks(scene: Scene) -> None:
    network_id = await scene.network(cidr="10.12.0.0/24")
    empty, hidden = await scene.network(cidr=None), await scene.network(P2, cidr="10.13.0.0/24")
    external = await scene.network(P2, cidr="10.14.0.0/24", router_external=True)
    open_ports = await scene.network(cidr="10.15.0.0/24", port_security_enabled=False)
    used = await scene.port(network_id, device_id="x", fixed_ips=(WantedIp(ip_address="10.12.0.5"),))
    assert used
    await scene.refused(400, "requires a subnet", networks=[{"uuid": empty}])
    await scene.refused(400, "could not be found", networks=[{"uuid": hidden}])
    await scene.refused(400, "could not be found", networks=[{"uuid": NOWHERE}])
    await scene.refused(400, "not in proper format", networks=[{"uuid": "x"}])
    await scene.refused(400, "missing 'uuid'", networks=[{}])
    await scene.refused(403, "external network", networks=[{"uuid": external}])
    await scene.refused(400, "already in use", networks=[{"uuid": network_id, "fixed_ip": "10.12.0.5"}])
    await scene.refused(400, "not a valid IP", networks=[{"uuid": network_id, "fixed_ip": "192.0.2.1"}])
    await scene.refused(400, "not an IP address", networks=[{"uuid": network_id, "fixed_ip": "10.12.0.500"}])
    await scene.refused(400, "max_count", networks=[{"uuid": network_id, "fixed_ip": "10.12.0.6"}], min_count=2)
    guard = await _group(scene, "guard")
    await scene.refused(400, "port_security", networks=[{"uuid": open_ports}], security_groups=[{"name": guard}])
    await scene.refused(409, "Multiple possible networks", v="2.37", networks="auto")


async def test_no_network_and_the_only_network(scene: Scene) -> None:
    server = await scene.until((await scene.create("2.37", networks="none"))["id"], "ACTIVE")
    assert server["addresses"] == {}
    assert "security_groups" not in server
    body = await scene.bed.server_body(networks="auto")
    newcomer = scene.bed.client("member@" + "d" * 32 + "/dave")  # who sees the network `default` alone
    made = (await newcomer.post("/servers", body, v="2.37", status=202))["server"]
    assert list((await scene.until(made["id"], "ACTIVE"))["addresses"]) == ["default"]


async def test_places(scene: Scene) -> None:
    hostnames = await _hostnames(scene)
    await scene.refused(400, "availability zone is not available", availability_zone="nowhere")
    await scene.refused(403, "forced_host", availability_zone=f"nova:{hostnames[0]}")
    await scene.refused(403, "requested_destination", v="2.74", host=hostnames[0])
    await scene.refused(400, "'host' was unexpected", v="2.73", host=hostnames[0])
    body = await scene.bed.server_body(host=hostnames[1])
    server_id = (await scene.admin.post("/servers", body, v="2.74", status=202))["server"]["id"]
    assert (await scene.until(server_id, "ACTIVE"))["OS-EXT-SRV-ATTR:host"] == hostnames[1]
    body = await scene.bed.server_body(availability_zone=f"nova:{hostnames[0]}")
    server_id = (await scene.admin.post("/servers", body, status=202))["server"]["id"]
    assert (await scene.until(server_id, "ACTIVE"))["OS-EXT-SRV-ATTR:host"] == hostnames[0]
    for fields, words in (({"host": "nowhere"}, "could not be found"), ({"availability_zone": "a:b:c:d"}, "parse")):
        body = await scene.bed.server_body(**fields)
        status, _, message = await scene.admin.refusal("POST", "/servers", body, v="2.74")
        assert status == 400
        assert words in message


async def test_a_disabled_host_is_in_maintenance(scene: Scene) -> None:
    server_id = await scene.server()
    assert (await scene.until(server_id, "ACTIVE"))["host_status"] == "UP"
    for values, word in (({"disabled": True}, "MAINTENANCE"), ({"forced_down": True}, "DOWN")):
        async with scene.bed.database.write() as connection:
            await connection.execute(update(hosts).values(**values))
        assert (await scene.until(server_id, "ACTIVE"))["host_status"] == word
    async with scene.bed.database.write() as connection:
        await connection.execute(update(hosts).values(disabled=False, forced_down=False))
    assert "host_status" not in await scene.show(server_id)


async def test_images(scene: Scene) -> None:
    hungry, big = await _image(scene, min_ram=256), await _image(scene, virtual_size=3 * 2**30)
    wide, queued = await _image(scene, min_disk=2), await _image(scene, status="queued")
    private = await _image(scene, owner=P2, visibility="private")
    await scene.refused(400, "memory is too small", imageRef=hungry)
    await scene.refused(400, "disk is too small", imageRef=big, flavorRef="1")
    await scene.refused(400, "smaller than the minimum size", imageRef=wide, flavorRef="1")
    await scene.refused(400, "is not active", imageRef=queued)
    await scene.refused(400, "Can not find requested image", imageRef=private)
    await scene.refused(400, "Can not find requested image", imageRef=NOWHERE)
    await scene.refused(400, "Missing imageRef", imageRef="")
    await scene.refused(400, "is not a 'uuid'", imageRef="cirros")
    await scene.refused(400, "could not be found", flavorRef="nowhere")


async def test_block_devices(scene: Scene) -> None:
    image_id = await scene.bed.image()
    local = {
        "uuid": image_id,
        "boot_index": 0,
        "source_type": "image",
        "destination_type": "local",
        "delete_on_termination": True,
        "disk_bus": "virtio",
    }
    await scene.server(block_device_mapping_v2=[local])
    await scene.server(block_device_mapping_v2=[local | {"boot_index": "0"}])
    for changes, words in (
        ({"destination_type": "volume"}, "no volumes"),
        ({"source_type": "volume"}, "no volumes"),
        ({"source_type": "blank"}, "no swap and no further ones"),
        ({"boot_index": 1}, "Mapping image to local"),
        ({"boot_index": None}, "Mapping image to local"),
        ({"uuid": NOWHERE}, "Mapping image to local"),
        ({"source_type": "tape"}, "Invalid"),
        ({"colour": "red"}, "'colour' was unexpected"),
        ({"volume_type": "fast"}, "'volume_type' was unexpected"),
        ({"tag": "a"}, "'tag' was unexpected"),
    ):
        await scene.refused(400, words, block_device_mapping_v2=[local | changes])
    await scene.refused(400, "no volumes", block_device_mapping_v2=[local, local])
    swap = {"source_type": "blank", "destination_type": "local", "guest_format": "swap", "boot_index": -1}
    await scene.refused(400, "no swap", block_device_mapping_v2=[local, swap])
    await scene.refused(400, "no volumes", block_device_mapping=[{"volume_id": NOWHERE}])
    await scene.refused(
        400, "different block_device_mapping", block_device_mapping=[{}], block_device_mapping_v2=[local]
    )


async def test_what_is_not_offered(scene: Scene) -> None:
    await scene.refused(400, "certificates", v="2.63", trusted_image_certificates=["x"])


async def test_files_come_to_the_guest_on_its_config_drive(scene: Scene) -> None:
    files = [{"path": "/etc/motd", "contents": "aGVs\nbG8="}, {"path": "/empty", "contents": ""}]
    server_id = await scene.server(personality=files)
    assert (await scene.show(server_id))["config_drive"] == "True"
    async with scene.bed.database.read() as connection:
        spec = server_spec((await read_by_ids(connection, [server_id]))[server_id], ())
    assert spec.injected_files == (InjectedFile("/etc/motd", "aGVsbG8="), InjectedFile("/empty", ""))
    tree = files_of(Description(server=spec))
    assert tree["openstack/content/0000"] == b"hello"
    plain = await scene.server(personality=[])
    assert (await scene.show(plain))["config_drive"] == ""

    # A rebuild takes those that it names, and no others.
    image = await scene.bed.image()
    for personality in ([{"path": "/b", "contents": "Yg=="}], None):
        body = {"imageRef": image} | ({"personality": personality} if personality else {})
        await scene.member.post(f"/servers/{server_id}/action", {"rebuild": body}, status=202)
        await scene.until(server_id, "ACTIVE")
        async with scene.bed.database.read() as connection:
            server = (await read_by_ids(connection, [server_id]))[server_id]
        assert server.injected_files == ((InjectedFile("/b", "Yg=="),) if personality else ())


async def test_files_have_limits(scene: Scene) -> None:
    limits = {"injected_files": 2, "injected_file_content_bytes": 3, "injected_file_path_bytes": 4}
    file = {"path": "/abc", "contents": "YWJj"}
    async with scene.bed.database.write() as connection:
        await quota_store.set_limits(connection, P1, limits)
    try:
        await scene.server(personality=[file, file])
        for personality in ([file] * 3, [{**file, "path": "/abcd"}], [{**file, "contents": "YWJjZA=="}]):
            await scene.refused(403, "ersonality file", personality=personality)
        server_id = await scene.server()
        rebuild = {"imageRef": await scene.bed.image(), "personality": [file] * 3}
        refusal = await scene.member.refusal("POST", f"/servers/{server_id}/action", {"rebuild": rebuild})
        assert refusal[0] == 403
    finally:
        async with scene.bed.database.write() as connection:
            await quota_store.set_limits(connection, P1, dict.fromkeys(limits, UNLIMITED))
    await scene.refused(400, "base64", personality=[{"path": "/a", "contents": "%"}])
    await scene.refused(400, "path", personality=[{"contents": "YQ=="}])
    await scene.refused(400, "contents", personality=[{"path": "/a"}])
    await scene.refused(400, "'personality' was unexpected", v="2.57", personality=[])


BAD_FIELDS: list[tuple[str, dict[str, object], str]] = [
    ("2.1", {"colour": "red"}, "Additional properties are not allowed ('colour' was unexpected)"),
    ("2.1", {"description": "x"}, "'description' was unexpected"),
    ("2.51", {"tags": []}, "'tags' was unexpected"),
    ("2.89", {"hostname": "ab"}, "'hostname' was unexpected"),
    ("2.62", {"trusted_image_certificates": None}, "'trusted_image_certificates' was unexpected"),
    ("2.1", {"name": ""}, "server.name"),
    ("2.1", {"name": " a"}, "name"),
    ("2.1", {"name": "a\n"}, "name"),
    ("2.1", {"name": "x" * 256}, "server.name"),
    ("2.1", {"name": 5}, "server.name"),
    ("2.1", {"name": None}, "server.name"),
    ("2.1", {"name": "a\x00b"}, "NUL"),
    ("2.1", {"metadata": {"a": "\x00"}}, "NUL"),
    ("2.1", {"metadata": {"a\x00": "b"}}, "NUL"),
    ("2.1", {"metadata": {"": "x"}}, "metadata"),
    ("2.1", {"metadata": {"a/b": "x"}}, "metadata"),
    ("2.1", {"metadata": {"a": "x" * 256}}, "metadata"),
    ("2.1", {"metadata": {"a": 5}}, "metadata"),
    ("2.1", {"metadata": []}, "metadata"),
    ("2.1", {"min_count": 0}, "min_count"),
    ("2.1", {"min_count": -1}, "min_count"),
    ("2.1", {"min_count": "x"}, "min_count"),
    ("2.1", {"min_count": 3, "max_count": 2}, "min_count must be <= max_count"),
    ("2.1", {"max_count": 10**30}, "At most"),
    ("2.1", {"max_count": 1.5}, "max_count"),
    ("2.1", {"user_data": "%%%"}, "base64"),
    ("2.1", {"user_data": "YQ==" * 20_000}, "user_data"),
    ("2.1", {"user_data": None}, "user_data"),
    ("2.1", {"config_drive": "perhaps"}, "config_drive"),
    ("2.1", {"accessIPv4": "::1"}, "accessIPv4"),
    ("2.1", {"accessIPv6": "1.2.3.4"}, "accessIPv6"),
    ("2.1", {"OS-DCF:diskConfig": "auto"}, "diskConfig"),
    ("2.1", {"key_name": "nowhere"}, "Invalid key_name provided."),
    ("2.1", {"key_name": None}, "key_name"),
    ("2.1", {"networks": "auto"}, "networks"),
    ("2.37", {"networks": "none at all"}, "networks"),
    ("2.1", {"networks": [5]}, "networks"),
    ("2.37", {"networks": [{"uuid": "%s", "tag": "a"}]}, "'tag' was unexpected"),
    ("2.42", {"networks": [{"uuid": "%s", "tag": "a,b"}]}, "tag"),
    ("2.1", {"security_groups": "default"}, "security_groups"),
    ("2.1", {"security_groups": [{"id": "x"}]}, "'id' was unexpected"),
    ("2.1", {"imageRef": 5}, "imageRef"),
    ("2.1", {"flavorRef": None}, "flavorRef"),
    ("2.1", {"flavorRef": ""}, "flavorRef"),
    ("2.19", {"description": "a\nb"}, "description"),
    ("2.19", {"description": "x" * 256}, "description"),
    ("2.52", {"tags": ["a/b"]}, "tags"),
    ("2.52", {"tags": [""]}, "tags"),
    ("2.52", {"tags": ["x" * 61]}, "tags"),
    ("2.52", {"tags": [str(n) for n in range(51)]}, "tags"),
    ("2.90", {"hostname": "a_b"}, "hostname"),
    ("2.90", {"hostname": "two", "max_count": 2}, "single hostname"),
    ("2.93", {"hostname": "a.example"}, "from microversion 2.94 on"),
    ("2.94", {"hostname": "a..b."}, "hostname"),
]


@pytest.mark.parametrize("case", range(len(BAD_FIELDS)))
async def test_bad_fields(scene: Scene, case: int) -> None:
    version, fields, words = BAD_FIELDS[case]
    if version >= "2.37":
        fields = {"networks": "none"} | fields
    await scene.refused(400, words, v=version, **fields)


async def test_networks_are_required_from_2_37_on(scene: Scene) -> None:
    body = await scene.bed.server_body()
    del body["server"]["networks"]
    status, _, message = await scene.member.refusal("POST", "/servers", body, v="2.37")
    assert (status, message) == (400, "'networks' is a required property")


async def test_quotas_are_told_in_novas_words(scene: Scene) -> None:
    await scene.refused(403, "Maximum number of metadata items exceeds 128", metadata={str(n): "x" for n in range(129)})
    async with scene.bed.database.write() as connection:
        await quota_store.set_limits(connection, P1, {"instances": 0})
    try:
        await scene.refused(403, "Quota exceeded for instances: Requested 1, but already used ")
    finally:
        async with scene.bed.database.write() as connection:
            await quota_store.set_limits(connection, P1, {"instances": UNLIMITED})


async def test_requests_that_come_together_are_looked_up_together(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    read_picture = lookup_store.read_picture

    async def counting(connection, asked):  # type: ignore[no-untyped-def]
        looked.append(len(asked))
        return await read_picture(connection, asked)

    monkeypatch.setattr(lookup_store, "read_picture", counting)
    network_id = await scene.network(cidr="10.16.0.0/20")
    ports = [await scene.port(network_id) for _ in range(40)]
    made = await asyncio.gather(*(scene.create(networks=[{"port": port_id}]) for port_id in ports))
    assert sum(looked) == 40
    assert len(looked) <= 10
    await asyncio.gather(*(scene.active(server["id"]) for server in made))


async def _hostnames(scene: Scene) -> list[str]:
    async with scene.bed.database.read() as connection:
        return sorted((await connection.execute(select(hosts.c.hostname))).scalars())


async def _group(scene: Scene, name: str, project_id: str = P1) -> str:
    draft = NewSecurityGroup(id=new_uuid(), project_id=project_id, name=name)
    [group] = await scene.cloud.network.security_groups.create(scene.root, [draft])
    return group.id

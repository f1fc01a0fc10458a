"""The stock clients on all of the compute API that is not servers, against `muster up` with simulated hosts."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import openstack
import pytest
from killable_cloud import KillableCloud, killable_cloud
from openstack.exceptions import BadRequestException, ConflictException, ForbiddenException, NotFoundException
from tests.openstack_command import OpenStack, openstack_command

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning"),  # the SDK warns of itself
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK60Warning"),
    pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedFieldWarning"),
    pytest.mark.filterwarnings("ignore::openstack.warnings.LegacyAPIWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJRjWZlPjV4x1cWhz7GXuS1sOPzYoVWzaqrjXgMqbmcL me@here"


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[KillableCloud]:
    """One for each test: usages, quotas and hosts are all of a cloud's."""
    async with killable_cloud(tmp_path / "c", "--sim-hosts", "3") as one:
        yield one


def environment(cloud: KillableCloud) -> dict[str, str]:
    return {"OS_CLIENT_CONFIG_FILE": str(cloud.folder / "clouds.yaml"), "OS_CLOUD": "muster"}


async def test_the_command(cloud: KillableCloud, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(PUBLIC_KEY + "\n")
    (tmp_path / "image").write_bytes(bytes(1024))
    with openstack_command(tmp_path / "home", environment(cloud)) as command:
        for part in (_keypairs, _flavors, _server_groups, _quotas, _hosts, _aggregates, _the_rest):
            await asyncio.to_thread(part, command, tmp_path)


def _keypairs(openstack: OpenStack, folder: Path) -> None:
    kept = openstack.json(f"keypair create --public-key {folder}/key.pub kept")
    assert (kept["name"], kept["type"]) == ("kept", "ssh")
    made = openstack("keypair create made")
    assert "PRIVATE KEY" in made
    openstack(f"keypair create --private-key {folder}/saved saved")
    assert "PRIVATE KEY" in (folder / "saved").read_text()
    assert {row["Name"] for row in openstack.json("keypair list")} >= {"kept", "made"}
    assert openstack("keypair show --public-key kept").split()[:2] == PUBLIC_KEY.split()[:2]
    assert openstack.json("keypair show kept")["fingerprint"] == kept["fingerprint"]
    assert "already exists" in openstack(f"keypair create --public-key {folder}/key.pub kept", status=1)
    for version in ("", "--os-compute-api-version 2.35"):  # by itself the command asks in 2.10
        paged = openstack.json(f"{version} keypair list --limit 1 --marker kept")
        assert [row["Name"] for row in paged] == ["made", "saved"]
    openstack("keypair list --user admin")
    openstack("keypair delete kept made")
    openstack("keypair show kept", status=1)


def _flavors(openstack: OpenStack, _folder: Path) -> None:
    wanted = "--id f1 --ram 256 --disk 2 --ephemeral 1 --swap 64 --vcpus 2 --rxtx-factor 2 --private"
    made = openstack.json(f"flavor create {wanted} --description first --property hw:cpu_sockets=2 f")
    assert (made["id"], made["ram"], made["os-flavor-access:is_public"]) == ("f1", 256, False)
    assert made["properties"] == {"hw:cpu_sockets": "2"}
    openstack("flavor set --property own:key=v --description second f")
    openstack("flavor unset --property hw:cpu_sockets f")
    shown = openstack.json("flavor show f")
    assert (shown["properties"], shown["description"]) == ({"own:key": "v"}, "second")
    openstack("flavor set --project admin f")
    assert openstack.json("flavor show f")["access_project_ids"] != []
    openstack("flavor unset --project admin f")
    assert "f" in {row["Name"] for row in openstack.json("flavor list --all --long")}
    assert {row["Name"] for row in openstack.json("flavor list --private")} == {"f"}
    assert [row["Name"] for row in openstack.json("flavor list --min-ram 8192")] == ["m1.large", "m1.xlarge"]
    assert [row["ID"] for row in openstack.json("flavor list --limit 1 --marker 3")] == ["4"]
    assert "already exists" in openstack("flavor create --ram 1 --vcpus 1 --disk 0 m1.tiny", status=1)
    openstack("flavor delete f")
    assert "No Flavor found" in openstack("flavor show f", status=1)


def _server_groups(openstack: OpenStack, folder: Path) -> None:
    made = openstack.json("server group create --policy anti-affinity --rule max_server_per_host=2 g")
    assert (made["policy"], made["rules"]) == ("anti-affinity", {"max_server_per_host": 2})
    image = f"image create --disk-format raw --container-format bare --file {folder}/image i"
    openstack.json(image)
    server_of = "server create --flavor guest.tiny --image i --key-name saved --wait vm"
    created = openstack.json(f"{server_of} --hint group={made['id']}")
    server = openstack.json(f"server show {created['id']}")  # by its name, the command shows a line of a list
    assert (server["status"], server["key_name"], server["server_groups"]) == ("ACTIVE", "saved", [made["id"]])
    assert openstack.json("server group show g")["members"] == [server["id"]]
    assert [row["Name"] for row in openstack.json("server group list --all-projects --long")] == ["g"]
    openstack("server group create --policy soft-affinity soft")
    assert [row["Name"] for row in openstack.json("server group list --limit 1")] == ["g", "soft"]
    openstack("server group delete g soft")
    assert openstack.json("server group list") == []


def _quotas(openstack: OpenStack, _folder: Path) -> None:
    openstack("project create poor")
    openstack("quota set --instances 3 --cores 7 --ram 1024 --key-pairs 9 --server-groups 4 poor")
    shown = {row["Resource"]: row["Limit"] for row in openstack.json("quota show poor")}
    assert {name: shown[name] for name in ("instances", "cores", "ram", "key-pairs", "server-groups")} == {
        "instances": 3,
        "cores": 7,
        "ram": 1024,
        "key-pairs": 9,
        "server-groups": 4,
    }
    usage = {row["Resource"]: row for row in openstack.json("quota show --usage")}
    assert (usage["instances"]["Limit"], usage["instances"]["In Use"]) == (-1, 1)
    assert "must be greater than or equal" in openstack("quota set --instances 0 admin", status=1)
    openstack("quota set --force --instances 0 admin")
    openstack("quota set --instances -1 admin")
    openstack("quota set --class --instances 77 default")
    defaults = {row["Resource"]: row["Limit"] for row in openstack.json("quota show --default")}
    assert defaults["instances"] == 77
    openstack("quota list --compute")
    openstack("quota delete --compute poor")
    shown = {row["Resource"]: row["Limit"] for row in openstack.json("quota show --compute poor")}
    assert shown["instances"] == 77
    limits = {row["Name"]: row["Value"] for row in openstack.json("limits show --absolute")}
    assert (limits["instances_used"], limits["instances"]) == (1, -1)
    openstack("limits show --rate")


def _hosts(openstack: OpenStack, _folder: Path) -> None:
    listed = openstack.json("hypervisor list --long")
    assert [row["Hypervisor Hostname"] for row in listed] == ["sim-0000", "sim-0001", "sim-0002"]
    assert {row["State"] for row in listed} == {"up"}
    assert len(openstack.json("hypervisor list --matching 0001")) == 1
    shown = openstack.json("hypervisor show sim-0001")
    assert (shown["hypervisor_type"], shown["status"], shown["aggregates"]) == ("sim", "enabled", [])
    assert "uptime" in shown  # told apart from words, so the host's answer must have their form
    stats = openstack("hypervisor stats show -f json")
    assert json.loads(stats[stats.index("{") :])["count"] == 3  # behind a word on the command's own age
    assert len(openstack.json("compute service list --long")) == 3
    openstack("compute service set --disable --disable-reason repair sim-0002 nova-compute")
    [service] = openstack.json("compute service list --long --host sim-0002")
    assert (service["Status"], service["Disabled Reason"]) == ("disabled", "repair")
    openstack("server create --flavor guest.tiny --image i --min 3 --max 3 --wait many")
    used = {row["Host"] for row in openstack.json("server list --long --name many")}
    assert used <= {"sim-0000", "sim-0001"}
    openstack("compute service set --enable sim-0002 nova-compute")
    openstack("compute service set --down sim-0002 nova-compute")
    assert openstack.json("compute service list --host sim-0002")[0]["State"] == "down"
    openstack("compute service set --up sim-0002 nova-compute")
    assert openstack.json("compute service list --host sim-0002")[0]["State"] == "up"
    zones = openstack.json("availability zone list --compute --long")
    assert {row["Zone Name"] for row in zones} == {"nova"}
    openstack("server delete --wait many-1 many-2 many-3")


def _aggregates(openstack: OpenStack, _folder: Path) -> None:
    openstack("aggregate create --zone east --property ssd=true rack")
    openstack("aggregate add host rack sim-0002")
    shown = openstack.json("aggregate show rack")
    assert (shown["hosts"], shown["availability_zone"], shown["properties"]) == (["sim-0002"], "east", {"ssd": "true"})
    assert {row["Zone Name"] for row in openstack.json("availability zone list --compute")} == {"nova", "east"}
    assert openstack.json("hypervisor show sim-0002")["aggregates"] == ["rack"]
    openstack("aggregate set --name shelf --zone west --property ssd=false rack")
    openstack("aggregate unset --property ssd shelf")
    assert [row["Name"] for row in openstack.json("aggregate list --long")] == ["shelf"]
    openstack("aggregate delete shelf", status=1)
    openstack("aggregate remove host shelf sim-0002")
    openstack("aggregate delete shelf")
    assert openstack.json("aggregate list") == []


def _the_rest(openstack: OpenStack, _folder: Path) -> None:
    assert "os-keypairs" in {row["Alias"] for row in openstack.json("extension list --compute")}
    [usage] = openstack.json("usage list --start 2020-01-01")
    assert sorted(server["name"] for server in usage["Servers"]) == ["many-1", "many-2", "many-3", "vm"]
    assert len(openstack.json("usage show")["Servers"]) == 4
    openstack("project create idle")
    assert openstack.json("usage show --project idle")["Servers"] == []
    versions = openstack.json("versions show --service compute")
    spoken = {(row["Version"], row["Min Microversion"], row["Max Microversion"]) for row in versions}
    assert spoken == {("2.1", "2.1", "2.96"), ("2.0", None, None)}
    assert openstack.json("server migration list") == []
    host = openstack.json("server list --long --name vm")[0]["Host"]
    [service] = openstack.json(f"compute service list --host {host}")
    assert "hosting instances" in openstack(f"compute service delete {service['ID']}", status=1)
    openstack("server delete --wait vm")
    openstack(f"compute service set --disable --disable-reason away {host} nova-compute")
    openstack(f"compute service delete {service['ID']}")
    # Its agent is alive, and may have said hello again: of what was set nothing is left.
    left = openstack.json(f"compute service list --long --host {host}")
    assert [(row["Status"], row["Disabled Reason"]) for row in left] in ([], [("enabled", None)])
    openstack("keypair delete saved")


async def test_the_sdk(cloud: KillableCloud, tmp_path: Path) -> None:
    await asyncio.to_thread(_use_sdk, cloud)


def _use_sdk(cloud: KillableCloud) -> None:
    config = openstack.config.OpenStackConfig(config_files=[str(cloud.folder / "clouds.yaml")])
    with openstack.connection.Connection(config=config.get_one("muster")) as connection:
        _use_compute(connection)
    older = config.get_one("muster", compute_default_microversion="2.52")
    with openstack.connection.Connection(config=older) as connection:
        _sdk_what_newer_versions_lack(connection)


def _use_compute(connection: openstack.connection.Connection) -> None:
    for part in (_sdk_keypairs, _sdk_flavors, _sdk_quotas, _sdk_hosts, _sdk_the_rest, _sdk_usages):
        part(connection)


def _sdk_keypairs(connection: openstack.connection.Connection) -> None:
    client = connection.compute
    pair = client.create_keypair(name="k")
    assert pair.private_key.startswith("-----BEGIN")
    assert client.find_keypair("k").fingerprint == pair.fingerprint
    assert client.get_keypair("k").public_key == pair.public_key
    with pytest.raises(ConflictException):
        client.create_keypair(name="k")
    with pytest.raises(BadRequestException):
        client.create_keypair(name="k@", public_key=PUBLIC_KEY)
    client.delete_keypair("k")
    assert "k" not in {one.name for one in client.keypairs()}


def _sdk_flavors(connection: openstack.connection.Connection) -> None:
    client = connection.compute
    flavor = client.create_flavor(name="sdk", ram=64, vcpus=1, disk=0, is_public=False)
    client.create_flavor_extra_specs(flavor, {"a": "1"})
    client.update_flavor_extra_specs_property(flavor, "a", "2")
    assert client.get_flavor(flavor.id, get_extra_specs=True).extra_specs == {"a": "2"}
    assert client.fetch_flavor_extra_specs(flavor.id).extra_specs == {"a": "2"}
    assert client.get_flavor_extra_specs_property(flavor.id, "a") == "2"
    client.delete_flavor_extra_specs_property(flavor, "a")
    client.flavor_add_tenant_access(flavor, connection.current_project_id)
    assert [one["tenant_id"] for one in client.get_flavor_access(flavor)] == [connection.current_project_id]
    client.flavor_remove_tenant_access(flavor, connection.current_project_id)
    assert client.update_flavor(flavor.id, description="d").description == "d"
    assert [one.name for one in client.flavors(is_public=False)] == ["sdk"]
    client.delete_flavor(flavor)
    assert client.find_flavor("sdk") is None


def _sdk_quotas(connection: openstack.connection.Connection) -> None:
    client = connection.compute
    project = connection.identity.create_project(name="sdk")
    client.update_quota_set(project, instances=4)
    assert client.get_quota_set(project).instances == 4
    assert client.get_quota_set(project, usage=True).usage["instances"] == 0
    # A user's part of it: the `openstack` command knows none, and what the SDK has for setting one fails in itself.
    user = connection.identity.create_user(name="sdk")
    path = f"/os-quota-sets/{project.id}?user_id={user.id}"
    assert client.put(path, json={"quota_set": {"instances": 2}}).json()["quota_set"]["instances"] == 2
    assert client.get_quota_set(project, user_id=user.id).instances == 2
    assert client.get_quota_set(project).instances == 4
    assert client.delete(path).status_code == 202
    assert client.get_quota_set(project, user_id=user.id).instances == 4
    connection.identity.delete_user(user)
    client.revert_quota_set(project)
    client.update_quota_class_set("default", instances=55)
    assert client.get_quota_class_set("default").instances == 55
    assert client.get_quota_set_defaults(project).instances == 55
    connection.identity.delete_project(project)
    assert client.get_limits().absolute.instances_used == len(list(client.servers()))


def _sdk_hosts(connection: openstack.connection.Connection) -> None:
    client = connection.compute
    assert {zone.name for zone in client.availability_zones(details=True)} == {"nova"}
    hosts = list(client.hypervisors(details=True))
    assert client.find_hypervisor(hosts[0].name).id == hosts[0].id
    assert client.get_hypervisor(hosts[0].id).uptime
    [service] = client.services(host="sim-0001")
    named = {"host": "sim-0001", "binary": "nova-compute"}
    assert client.disable_service(service, **named, disabled_reason="x").status == "disabled"
    assert client.enable_service(service, **named).status == "enabled"
    assert client.update_service_forced_down(service, **named, forced=False)
    assert client.find_service("nova-compute", host="sim-0001").id == service.id
    assert client.update_service(service, status="disabled", disabled_reason="y").disabled_reason == "y"
    assert client.update_service(service, status="enabled").disabled_reason is None
    with pytest.raises(NotFoundException):
        client.delete_service("0" * 32, ignore_missing=False)


def _sdk_the_rest(connection: openstack.connection.Connection) -> None:
    client = connection.compute
    group = client.create_server_group(name="g", policy="soft-anti-affinity")
    assert client.find_server_group("g").policy == "soft-anti-affinity"
    assert client.get_server_group(group.id).name == "g"
    assert [one.id for one in client.server_groups(all_projects=True)] == [group.id]
    client.delete_server_group(group)
    aggregate = client.create_aggregate(name="a", availability_zone="north")
    client.add_host_to_aggregate(aggregate, "sim-0001")
    client.set_aggregate_metadata(aggregate, {"k": "v"})
    assert client.get_aggregate(aggregate.id).metadata == {"k": "v", "availability_zone": "north"}
    assert client.find_aggregate("a").id == aggregate.id
    assert client.update_aggregate(aggregate, name="b", availability_zone="south").availability_zone == "south"
    client.remove_host_from_aggregate(aggregate, "sim-0001")
    client.delete_aggregate(aggregate)
    assert list(client.aggregates()) == []
    assert list(client.migrations()) == []
    assert {one.alias for one in client.extensions()} >= {"os-keypairs"}


def _sdk_usages(connection: openstack.connection.Connection) -> None:
    client, project_id = connection.compute, connection.current_project_id
    image, flavor = connection.image.find_image("guest"), client.find_flavor("guest.tiny")
    made = client.create_server(name="used", image_id=image.id, flavor_id=flavor.id, networks="none")
    server = client.wait_for_server(made, interval=0.1, wait=300)  # what never ran has used nothing
    since = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=1)
    assert [usage.project_id for usage in client.usages(start=since)] == [project_id]
    assert "used" in {used.name for used in client.get_usage(project_id, start=since).server_usages}
    client.delete_server(server)
    client.wait_for_delete(server, interval=0.1, wait=300)


def _sdk_what_newer_versions_lack(connection: openstack.connection.Connection) -> None:
    client = connection.compute
    host = client.find_hypervisor("sim-0001", details=False)
    assert client.get_hypervisor_uptime(host).uptime
    service = client.find_service("nova-compute", host="sim-0001")
    for forced in (True, False):
        assert service.set_forced_down(client, "sim-0001", "nova-compute", forced).is_forced_down is forced


async def test_a_user_without_rights_is_told_so(cloud: KillableCloud) -> None:
    await asyncio.to_thread(_as_a_member, cloud)


def _as_a_member(cloud: KillableCloud) -> None:
    config = openstack.config.OpenStackConfig(config_files=[str(cloud.folder / "clouds.yaml")])
    admin = openstack.connection.Connection(config=config.get_one("muster"))
    try:
        project = admin.identity.create_project(name="theirs")
        user = admin.identity.create_user(name="bob", password="pw", default_project_id=project.id)
        admin.identity.assign_project_role_to_user(project, user, admin.identity.find_role("member"))
        where = {"auth_url": f"{cloud.base_url}/identity/v3", "region_name": "RegionOne"}
        domains = {"user_domain_id": "default", "project_domain_id": "default"}
        bob = openstack.connect(**where, **domains, username="bob", password="pw", project_name="theirs")
        try:
            assert bob.compute.create_keypair(name="k", public_key=PUBLIC_KEY).name == "k"
            assert [one.name for one in bob.compute.keypairs()] == ["k"]
            assert len(list(bob.compute.flavors())) == 6
            for refused in (
                lambda: list(bob.compute.hypervisors()),
                lambda: list(bob.compute.services()),
                lambda: list(bob.compute.aggregates()),
                lambda: bob.compute.create_flavor(name="x", ram=1, vcpus=1, disk=0),
                lambda: bob.compute.update_quota_set(project, instances=5),
                lambda: bob.compute.get_quota_set(admin.current_project_id),
            ):
                with pytest.raises(ForbiddenException):
                    refused()
        finally:
            bob.close()
    finally:
        admin.close()

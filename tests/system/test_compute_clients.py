"""The stock clients against a whole cloud in a process of its own: every verb of servers that they have a call for."""

import base64
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack
import pytest
from openstack.connection import Connection
from openstack.exceptions import BadRequestException, ConflictException
from tests.cloud_process import CloudProcess, cloud_process
from tests.openstack_command import OpenStack, openstack_command

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning", "ignore::DeprecationWarning"),  # openstacksdk's own
]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudProcess]:
    with cloud_process(tmp_path_factory.mktemp("muster"), sim_hosts=3) as one:
        yield one


@pytest.fixture(scope="module")
def stack(cloud: CloudProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenStack]:
    """The command, in a cloud with two images, a network `blue` and a group `web`."""
    home = tmp_path_factory.mktemp("home")
    (home / "image.raw").write_bytes(os.urandom(1024))
    with openstack_command(home, cloud.environment) as command:
        command(f"image create --disk-format raw --file {home}/image.raw plain")
        command(f"image create --disk-format raw --file {home}/image.raw other")
        command("network create blue")
        command("subnet create --network blue --subnet-range 10.50.0.0/24 --no-dhcp blue")
        command("security group create web")
        yield command


@pytest.fixture(scope="module")
def sdk(cloud: CloudProcess, stack: OpenStack) -> Iterator[Connection]:
    config = openstack.config.OpenStackConfig(config_files=[str(cloud.clouds_yaml)]).get_one("muster")
    connection = Connection(config=config)
    yield connection
    connection.close()


@pytest.fixture(autouse=True)
def _servers_go_with_their_test(sdk: Connection) -> Iterator[None]:
    """Also with one that failed: lists are of all that there are."""
    yield
    left = list(sdk.compute.servers(details=False))
    for server in left:
        sdk.compute.delete_server(server, ignore_missing=True)
    for server in left:
        sdk.compute.wait_for_delete(server, interval=0.1, wait=300)


def _rows(stack: OpenStack, line: str) -> set[str]:
    return {row["Name"] for row in stack.json(line)}


def test_a_server_with_everything(stack: OpenStack, tmp_path: Path) -> None:
    stack("keypair create k")
    stack("port create --network blue --fixed-ip ip-address=10.50.0.40 p")
    user_data = tmp_path / "user-data"
    user_data.write_text("#!/bin/sh\necho hello\n")
    made = stack.json(
        "server create --image plain --flavor guest.tiny --network default --nic port-id=p --key-name k "
        "--security-group web --property a=b --availability-zone nova --config-drive true --description 'what for' "
        f"--tag red --hostname vm-host --user-data {user_data} --wait vm --os-compute-api-version 2.90"
    )
    assert made["status"] == "ACTIVE"
    assert made["properties"] == {"a": "b"}
    assert made["key_name"] == "k"
    shown = stack.json("server show vm --os-compute-api-version 2.90")
    assert set(shown["addresses"]) == {"default", "blue"}
    assert shown["addresses"]["blue"] == ["10.50.0.40"]
    assert (shown["description"], shown["tags"]) == ("what for", ["red"])
    assert shown["OS-EXT-SRV-ATTR:hostname"] == "vm-host"
    assert shown["OS-EXT-SRV-ATTR:user_data"] == base64.b64encode(user_data.read_bytes()).decode()
    assert {group["name"] for group in shown["security_groups"]} == {"default", "web"}
    assert "still in use" in stack("server create --image plain --flavor guest.tiny --port p x", status=1)

    stack("server set --name vm2 --property c=d --description new vm")
    stack("server set --tag blue --tag green vm2 --os-compute-api-version 2.26")
    stack("server unset --property a --tag red vm2 --os-compute-api-version 2.26")
    shown = stack.json("server show vm2 --os-compute-api-version 2.90")
    assert (shown["properties"], shown["tags"], shown["description"]) == ({"c": "d"}, ["blue", "green"], "new")
    stack("server delete --wait vm2")
    assert stack.json("port show p")["device_id"] == ""
    assert "No Server found" in stack("server show vm2", status=1)
    stack("port delete p")
    stack("keypair delete k")


def test_lists(stack: OpenStack) -> None:
    stack("server create --image plain --flavor m1.tiny --nic net-id=default,v4-fixed-ip=10.77.9.9 --wait fixed")
    stack("server create --image plain --flavor guest.tiny --network blue --min 2 --max 3 --wait many")
    stack("server create --image plain --flavor guest.tiny --nic none --tag red --os-compute-api-version 2.52 bare")
    assert _rows(stack, "server list") == {"fixed", "many-1", "many-2", "many-3", "bare"}
    assert _rows(stack, "server list --name ^many") == {"many-1", "many-2", "many-3"}
    assert _rows(stack, "server list --name 'many-[12]$'") == {"many-1", "many-2"}
    assert _rows(stack, "server list --flavor m1.tiny") == {"fixed"}
    assert _rows(stack, "server list --ip 10.77.9.9") == {"fixed"}
    assert _rows(stack, "server list --tags red --os-compute-api-version 2.26") == {"bare"}
    assert _rows(stack, "server list --status SHUTOFF") == set()
    assert len(stack.json("server list --all-projects --limit 2 --long --image plain")) == 2
    stack("server delete --wait fixed many-1 many-2 many-3 bare")
    assert _rows(stack, "server list") == set()


def test_power_rebuild_console_and_the_record(stack: OpenStack) -> None:
    stack("server create --image plain --flavor guest.tiny --network default --wait vm")
    stack("server stop vm")
    _until(stack, "vm", "SHUTOFF")
    stack("server start vm")
    _until(stack, "vm", "ACTIVE")
    stack("server reboot --wait vm")
    stack("server reboot --hard --wait vm")
    stack("server rebuild --image other --name vm3 --property x=y --wait vm")
    shown = stack.json("server show vm3")
    assert shown["image"].startswith("other")
    assert shown["properties"] == {"x": "y"}
    assert "simulated" in stack("console log show --lines 5 vm3")
    stack("server lock --reason care vm3 --os-compute-api-version 2.73")
    assert stack.json("server show vm3 --os-compute-api-version 2.73")["locked_reason"] == "care"
    stack("server unlock vm3")
    stack("server set --state error --auto-approve vm3")
    assert stack.json("server show vm3")["status"] == "ERROR"

    events = stack.json("server event list vm3")
    done = ["resetState", "unlock", "lock", "rebuild", "reboot", "reboot", "start", "stop", "create"]
    assert [row["Action"] for row in events] == done
    request_id = events[-1]["Request ID"]
    shown = stack.json(f"server event show vm3 {request_id} --os-compute-api-version 2.84")
    assert shown["action"] == "create"
    assert shown["events"][0]["result"] == "Success"
    stack("server delete --wait vm3")


def test_interfaces_and_groups(stack: OpenStack) -> None:
    stack("server create --image plain --flavor guest.tiny --network default --wait vm")
    stack("server add security group vm web")
    stack("server remove security group vm default")
    assert {group["name"] for group in stack.json("server show vm")["security_groups"]} == {"web"}
    stack("server add network vm blue")
    stack("port create --network blue q")
    stack("server add port vm q --tag back --os-compute-api-version 2.49")
    stack("server add fixed ip --fixed-ip-address 10.50.0.77 vm blue")
    shown = stack.json("server show vm")
    assert len(shown["addresses"]["blue"]) == 3
    assert "10.50.0.77" in shown["addresses"]["blue"]
    stack("server remove fixed ip vm 10.50.0.77 --os-compute-api-version 2.43")
    assert "10.50.0.77" not in stack.json("server show vm")["addresses"]["blue"]
    stack("server remove port vm q")
    assert stack.json("port show q")["device_id"] == ""
    stack("server remove network vm blue")
    assert set(stack.json("server show vm")["addresses"]) == {"default"}
    stack("server delete --wait vm")
    stack("port delete q")


def test_a_project_is_cleaned_up(stack: OpenStack) -> None:
    stack("project create tidy")
    stack("role add --user admin --project tidy admin")
    stack("network create --project tidy shed")
    stack("subnet create --project tidy --network shed --subnet-range 10.51.0.0/24 shed")
    stack("port create --project tidy --network shed shed")
    stack("security group create --project tidy shed")
    stack("project cleanup --project tidy --auto-approve --skip-resource network.floating_ip")
    for kind in ("network", "subnet", "port", "security group"):
        assert "shed" not in _rows(stack, f"{kind} list"), kind
    stack("project delete tidy")


def test_a_failed_server_says_why(stack: OpenStack) -> None:
    """No host has room for it: nothing was injected."""
    stack("flavor create --vcpus 1 --ram 64 --disk 1000000 huge")
    stack("server create --image plain --flavor huge --nic none --wait big", status=1)
    shown = stack.json("server show big")
    assert shown["status"] == "ERROR"
    assert shown["fault"]["code"] == 500
    assert shown["fault"]["message"].startswith("No valid host was found.")
    stack("server delete --wait big")
    stack("flavor delete huge")


def test_what_is_not_offered_is_said(stack: OpenStack) -> None:
    stack("server create --image plain --flavor guest.tiny --nic none --wait vm")
    for refused in ("resize --flavor m1.tiny", "pause", "suspend", "shelve", "rescue", "image create", "backup create"):
        assert "does not offer" in stack(f"server {refused} vm", status=1), refused
    assert "no remote consoles" in stack("console url show vm", status=1)
    assert stack.json("server volume list vm") == []
    stack("server delete --wait vm")


def _until(stack: OpenStack, name: str, status: str) -> None:
    end = time.monotonic() + 300
    while stack.json(f"server show {name}")["status"] != status:
        assert time.monotonic() < end


def _settled(compute: Any, server_id: str) -> Any:
    """The server once it is active and no task is under way; the library's wait believes what it read last."""
    end = time.monotonic() + 300
    while True:
        server = compute.get_server(server_id)
        if server.status == "ACTIVE" and server.task_state is None:
            return server
        assert time.monotonic() < end, server
        time.sleep(0.1)


def test_openstacksdk_making_and_changing(sdk: Connection) -> None:
    compute = sdk.compute
    image, flavor = sdk.image.find_image("plain"), compute.find_flavor("guest.tiny")
    network = sdk.network.find_network("default")
    group = sdk.network.create_security_group(name="sdk")
    made = compute.create_server(
        name="s",
        image_id=image.id,
        flavor_id=flavor.id,
        networks=[{"uuid": network.id}],
        security_groups=[{"name": "sdk"}],
        metadata={"a": "1"},
        tags=["t"],
        description="d",
        hostname="host-s",
    )
    server = compute.wait_for_server(made, interval=0.1, wait=300)
    assert server.status == "ACTIVE"
    assert (server.description, server.tags, server.hostname) == ("d", ["t"], "host-s")
    assert compute.find_server("s").id == server.id
    assert [one.id for one in compute.servers(name="s", status="ACTIVE", all_projects=True)] == [server.id]
    assert [one.id for one in compute.servers(details=False, limit=1, paginated=False)] == [server.id]
    [address] = list(compute.server_ips(server))
    assert address.network_label == "default"

    compute.set_server_metadata(server, b="2")
    compute.delete_server_metadata(server.id, ["a"])
    assert compute.get_server_metadata(server).metadata == {"b": "2"}
    server.add_tag(compute, "u")
    assert set(server.fetch_tags(compute).tags) == {"t", "u"}
    assert server.check_tag(compute, "u")
    server.remove_tag(compute, "u")
    server.set_tags(compute, ["x"])
    server.remove_all_tags(compute)
    assert server.fetch_tags(compute).tags == []
    server = compute.update_server(server, name="s2", description="e")
    assert (server.name, server.description) == ("s2", "e")

    interface = compute.create_server_interface(server, net_id=network.id, tag="second")
    assert compute.get_server_interface(interface, server=server).port_id == interface.port_id
    assert len(list(compute.server_interfaces(server))) == 2
    compute.delete_server_interface(interface, server=server)
    assert len(list(compute.server_interfaces(server))) == 1
    compute.remove_security_group_from_server(server, group)
    compute.add_security_group_to_server(server, group)
    server.fetch_security_groups(compute)
    assert {one["name"] for one in server.security_groups} == {"sdk"}
    compute.delete_server(server)
    compute.wait_for_delete(server, interval=0.1, wait=300)
    sdk.network.delete_security_group(group)


def test_openstacksdk_actions(sdk: Connection) -> None:
    compute = sdk.compute
    image, flavor = sdk.image.find_image("plain"), compute.find_flavor("guest.tiny")
    made = compute.create_server(name="s", image_id=image.id, flavor_id=flavor.id, networks="none")
    server = compute.wait_for_server(made, interval=0.1, wait=300)
    compute.stop_server(server)
    compute.wait_for_server(server, "SHUTOFF", interval=0.1, wait=300)
    with pytest.raises(ConflictException, match="vm_state stopped"):
        compute.stop_server(server)
    compute.start_server(server)
    _settled(compute, server.id)
    compute.reboot_server(server, "HARD")
    _settled(compute, server.id)
    compute.rebuild_server(server, image.id, name="s3", user_data="aGk=", metadata={"c": "3"})
    server = _settled(compute, server.id)
    assert (server.name, server.metadata) == ("s3", {"c": "3"})
    assert "simulated" in compute.get_server_console_output(server)["output"]
    assert compute.get_server_password(server) == ""  # nothing in a guest has told of one
    compute.clear_server_password(server)
    compute.lock_server(server, locked_reason="r")
    assert compute.get_server(server).is_locked
    compute.unlock_server(server)
    compute.reset_server_state(server, "error")
    assert compute.get_server(server).status == "ERROR"
    compute.reset_server_state(server, "active")
    actions = [action.action for action in compute.server_actions(server)]
    assert actions[0] == "resetState"
    assert actions[-1] == "create"
    assert compute.get_server_action(next(iter(compute.server_actions(server))).request_id, server).action
    assert compute.get_server_diagnostics(server).state == "running"
    with pytest.raises(BadRequestException, match="does not offer the action resize"):
        compute.resize_server(server, flavor)
    compute.delete_server(server)
    compute.wait_for_delete(server, interval=0.1, wait=300)


def test_openstacksdk_pages(sdk: Connection) -> None:
    image, flavor = sdk.image.find_image("plain"), sdk.compute.find_flavor("guest.tiny")
    sdk.compute.create_server(name="page", image_id=image.id, flavor_id=flavor.id, networks="none", min_count=5)
    whole = [server.id for server in sdk.compute.servers(name="page")]
    assert len(whole) == 5
    assert [server.id for server in sdk.compute.servers(name="page", limit=2)] == whole
    assert [server.id for server in sdk.compute.servers(name="page", details=False, limit=1)] == whole
    rest = sdk.compute.servers(name="page", limit=2, marker=whole[2], paginated=False)
    assert [server.id for server in rest] == whole[3:]


def test_the_cloud_layer_as_ansibles_modules_use_it(sdk: Connection) -> None:
    made = sdk.create_server("layer", image="plain", flavor="guest.tiny", network="default", auto_ip=False, wait=True)
    assert sdk.get_server("layer").status == "ACTIVE"
    assert sdk.delete_server("layer", wait=True)
    assert sdk.get_server(made.id) is None


def test_the_cloud_layer_wants_no_floating_address(sdk: Connection) -> None:
    """It asks for one for each server where there is an external network; clouds.yaml says that there are none."""
    external = sdk.create_network("outside", external=True)
    sdk.create_server("inside", image="plain", flavor="guest.tiny", network="default", wait=True)
    assert sdk.get_server("inside").status == "ACTIVE"
    assert sdk.delete_server("inside", wait=True, delete_ips=True)
    sdk.delete_network(external.id)

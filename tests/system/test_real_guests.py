"""Real guests through the HTTP API: what a user of `muster up --libvirt` does, and what an operator does to it."""

import base64
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("libvirt")

from real_cloud import BOOT_ID, RealCloud, address_of, allow, real_cloud
from tests.commands import sh
from tests.waiting import eventually

from muster.host.names import tap_name
from muster.host.unpacking import contents

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.timeout(900)]

USER_DATA = "#!/bin/sh\necho user data has run\necho told > /root/told\n"
SIMULATED = 2


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCloud]:
    """A cloud whose admin has a key, and whose default group lets in ping and ssh."""
    with real_cloud(tmp_path_factory.mktemp("real"), "--sim-hosts", str(SIMULATED)) as cloud:
        public = cloud.key.with_suffix(".pub").read_text()
        cloud.ask("POST", "/compute/v2.1/os-keypairs", {"keypair": {"name": "mine", "public_key": public}})
        allow(cloud, protocol="icmp")
        allow(cloud, protocol="tcp", port_range_min=22, port_range_max=22)
        yield cloud


@pytest.fixture(scope="module")
def guests(cloud: RealCloud) -> tuple[str, str]:
    """Two guests that are up: one told by the metadata service, one by its config drive."""
    encoded = base64.b64encode(USER_DATA.encode()).decode()
    served = cloud.create_server("served", key_name="mine", metadata={"colour": "green"})
    driven = cloud.create_server("driven", key_name="mine", user_data=encoded, config_drive=True)
    for server_id in (served, driven):
        cloud.reach(address_of(cloud.becomes(server_id, "ACTIVE")), "true")
    return served, driven


def port_id_of(cloud: RealCloud, server_id: str) -> str:
    [port] = cloud.ask("GET", f"/network/v2.0/ports?device_id={server_id}")["ports"]
    return port["id"]


def boot_id(cloud: RealCloud, address: str) -> str:
    """What is new with each boot of a guest."""
    return cloud.reach(address, BOOT_ID)


def reboots(cloud: RealCloud, address: str, before: str) -> None:
    eventually("the guest has booted again", lambda: (cloud.ssh(address, BOOT_ID) or before) != before)


def test_guests_are_reached_and_know_who_they_are(cloud: RealCloud, guests: tuple[str, str]) -> None:
    served, driven = map(cloud.server, guests)
    for server in (served, driven):
        address = address_of(server)
        eventually("it answers", lambda at=address: cloud.answers_ping(at))
        said = cloud.reach(address, "hostname; ip -4 -o address show eth0; cat /sys/class/net/eth0/address")
        name, shown, mac = said.splitlines()
        assert name == server["name"]
        assert f" {address}/16 " in shown
        assert mac == server["addresses"]["default"][0]["OS-EXT-IPS-MAC:mac_addr"]
        assert server["OS-EXT-AZ:availability_zone"] == "nova"
        console = cloud.console(server["id"])
        assert f"muster-guest: ready hostname={name} ip={address}" in console
    document = cloud.reach(address_of(served), "wget -qO- http://169.254.169.254/openstack/latest/meta_data.json")
    assert '"colour":"green"' in document
    assert served["id"] in document
    assert cloud.reach(address_of(driven), "cat /root/told") == "told\n"
    assert "user data has run" in console
    assert served["config_drive"] == ""
    assert driven["config_drive"] == "True"


def test_a_guest_starts_only_after_its_network_is_ready(cloud: RealCloud, guests: tuple[str, str]) -> None:
    for server_id in guests:
        steps = eventually("the lease was seen", lambda id_=server_id: (t := cloud.timeline(id_)).get("dhcp") and t)
        order = ["accepted", "placed", "received", "imaged", "plumbed", "leasable", "admitted", "started", "dhcp"]
        times = [steps[step] for step in order]
        assert times == sorted(times), steps


def test_guests_are_clones_of_the_image_that_the_host_has_unpacked(cloud: RealCloud, guests: tuple[str, str]) -> None:
    (image,) = (cloud.folder / "host" / "images").iterdir()
    assert image.name.endswith(".unpacked.qcow2")
    assert contents(image).n_compressed == 0
    for server_id in guests:
        record = json.loads((cloud.folder / "host" / "instances" / server_id / "record.json").read_text())
        assert record["base"] == str(image)


def test_a_port_is_closed_until_a_rule_opens_it(cloud: RealCloud, guests: tuple[str, str]) -> None:
    address = address_of(cloud.server(guests[0]))
    cloud.reach(address, "(while true; do nc -l -p 8080 </dev/null; done) >/dev/null 2>&1 & echo")
    eventually("ssh is open", lambda: cloud.is_open(address, 22))
    assert not cloud.is_open(address, 8080)
    rule = allow(cloud, protocol="tcp", port_range_min=8080, port_range_max=8080)
    eventually("the port is open", lambda: cloud.is_open(address, 8080))
    cloud.ask("DELETE", f"/network/v2.0/security-group-rules/{rule}")
    eventually("the port is closed again", lambda: not cloud.is_open(address, 8080))


def test_stop_start_reboot_and_rebuild(cloud: RealCloud, guests: tuple[str, str]) -> None:
    served, driven = guests
    addresses = [address_of(cloud.server(server_id)) for server_id in guests]
    before = [cloud.reach(address, f"echo kept > /root/mark; sync; {BOOT_ID}") for address in addresses]
    # What a loss of power soon after a first boot can leave of the guest's own key.
    key = "/etc/dropbear/dropbear_ed25519_host_key"
    scratch = f"for process in $(seq 1 999); do : > {key}.tmp$process; done"
    cloud.reach(addresses[1], f"head -c 80 /dev/zero > {key}; {scratch}; sync")
    cloud.act(served, {"reboot": {"type": "SOFT"}})
    cloud.act(driven, {"reboot": {"type": "HARD"}})
    for server_id, address, boot in zip(guests, addresses, before, strict=True):
        cloud.becomes(server_id, "ACTIVE")
        reboots(cloud, address, boot)
        assert cloud.reach(address, "cat /root/mark") == "kept\n"
    cloud.act(served, {"os-stop": None})
    cloud.act(driven, {"rebuild": {"imageRef": cloud.named("/image/v2/images", "guest")["id"]}})
    cloud.becomes(served, "SHUTOFF")
    assert not cloud.answers_ping(addresses[0])
    cloud.act(served, {"os-start": None})
    for server_id in guests:
        cloud.becomes(server_id, "ACTIVE")
    assert cloud.reach(addresses[0], "cat /root/mark") == "kept\n"
    assert cloud.reach(addresses[1], "cat /root/mark 2>/dev/null || hostname") == "driven\n"


def test_an_interface_comes_and_goes_while_its_guest_runs(cloud: RealCloud, guests: tuple[str, str]) -> None:
    server_id = guests[0]
    address = address_of(cloud.server(server_id))
    boot = boot_id(cloud, address)
    network = cloud.ask("POST", "/network/v2.0/networks", {"network": {"name": "second"}})["network"]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.99.0.0/24", "gateway_ip": None}
    cloud.ask("POST", "/network/v2.0/subnets", {"subnet": subnet})
    path = f"/compute/v2.1/servers/{server_id}/os-interface"
    made = cloud.ask("POST", path, {"interfaceAttachment": {"net_id": network}})["interfaceAttachment"]
    second = made["fixed_ips"][0]["ip_address"]
    show = "ip -4 -o address show eth1 2>/dev/null; cat /sys/class/net/eth1/address 2>/dev/null"
    said = eventually(
        "the card is there and has its lease",
        lambda: f" {second}/24 " in (out := cloud.ssh(address, show) or "") and out,
    )
    assert made["mac_addr"] in said
    eventually("the second address answers", lambda: cloud.answers_ping(second))
    tap = tap_name(made["port_id"])
    assert tap in cloud.links()
    cloud.ask("DELETE", f"{path}/{made['port_id']}")
    eventually(
        "the card is gone",
        lambda: cloud.ssh(address, "ls /sys/class/net/eth1 >/dev/null 2>&1 || echo gone") == "gone\n",
    )
    eventually("its tap is gone", lambda: tap not in cloud.links())
    assert boot_id(cloud, address) == boot, "the guest has run on all the while"
    cloud.ask("DELETE", f"/network/v2.0/networks/{network}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "kill -9"])
def test_guests_outlive_muster(cloud: RealCloud, guests: tuple[str, str], number: signal.Signals) -> None:
    addresses = [address_of(cloud.server(server_id)) for server_id in guests]
    before = [boot_id(cloud, address) for address in addresses]
    cloud.end(number)
    for address in addresses:
        eventually("it answers", lambda at=address: cloud.answers_ping(at))
    cloud.start()
    for server_id, address, boot in zip(guests, addresses, before, strict=True):
        assert cloud.becomes(server_id, "ACTIVE")
        assert boot_id(cloud, address) == boot
        assert served_document(cloud, address, server_id)
    # It is in command again: what it is asked for now reaches the guests' host.
    third = cloud.create_server("third")
    cloud.becomes(third, "ACTIVE")
    cloud.delete(third)


def test_guests_that_ended_with_their_libvirtd_are_started_again(cloud: RealCloud, guests: tuple[str, str]) -> None:
    addresses = [address_of(cloud.server(server_id)) for server_id in guests]
    before = [boot_id(cloud, address) for address in addresses]
    cloud.end_all_guests()
    for server_id, address, boot in zip(guests, addresses, before, strict=True):
        reboots(cloud, address, boot)
        assert cloud.server(server_id)["status"] == "ACTIVE"


def served_document(cloud: RealCloud, address: str, server_id: str) -> bool:
    said = eventually(
        "the metadata service answers",
        lambda: cloud.ssh(address, "wget -qO- http://169.254.169.254/openstack/latest/meta_data.json"),
    )
    return server_id in said


def test_nothing_of_a_deleted_guest_is_left(cloud: RealCloud, guests: tuple[str, str]) -> None:
    doomed = cloud.create_server("doomed", key_name="mine", config_drive=True)
    address = address_of(cloud.becomes(doomed, "ACTIVE"))
    tap = tap_name(port_id_of(cloud, doomed))
    assert traces(cloud, doomed, tap, address) == ALL_TRACES
    cloud.delete(doomed)
    eventually("nothing is left", lambda: not traces(cloud, doomed, tap, address))
    other = address_of(cloud.server(guests[0]))
    eventually("the other one answers", lambda: cloud.answers_ping(other))


ALL_TRACES = {"tap", "rules", "folder", "DHCP entry", "QEMU"}


def traces(cloud: RealCloud, server_id: str, tap: str, address: str) -> set[str]:
    """What there is of a guest on its host."""
    host = cloud.folder / "host"
    entries = "".join(path.read_text() for path in host.glob("network/dhcp/*/hosts/*"))
    found = {
        "tap": tap in cloud.links(),
        "rules": tap in cloud.rules(),
        "folder": (host / "instances" / server_id).exists(),
        "DHCP entry": address + "," in entries,
        "QEMU": any(server_id in command for command in cloud.processes()),
    }
    return {name for name, there in found.items() if there}


def test_simulated_hosts_are_a_zone_beside_the_real_one(cloud: RealCloud) -> None:
    simulated = cloud.create_server("simulated", availability_zone="sim")
    server = cloud.becomes(simulated, "ACTIVE")
    assert server["OS-EXT-AZ:availability_zone"] == "sim"
    assert not any(simulated in command for command in cloud.processes())
    cloud.delete(simulated)


def test_a_guest_that_finds_no_room_on_the_hosts_disk_goes_on_when_there_is_some(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    instances = folder / "cloud/host/instances"
    instances.mkdir(parents=True)
    with tiny_disk(instances) as grow, real_cloud(folder, "--sim-hosts", "0") as cloud:
        guest = cloud.create_server("squeezed")
        cloud.becomes(guest, "ACTIVE")
        eventually("it is paused", lambda: "guests stood still for want of room" in cloud.log())
        assert "ready hostname" not in cloud.console(guest)
        grow()
        eventually("it is up", lambda: "ready hostname" in cloud.console(guest))


@contextmanager
def tiny_disk(place: Path) -> Iterator[Callable[[], None]]:
    """A file system on which a guest's boot finds no room, until it is made to grow."""
    sh("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place))
    try:
        yield lambda: sh("mount", "-o", "remount,size=64m", str(place)) and None
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False, timeout=30)


def test_one_cloud_in_a_namespace_and_nothing_left_of_it(tmp_path: Path) -> None:
    """One story, since a cloud's start is what takes long: another is refused beside it and beside what it left; it
    leaves nothing where no guest runs; it outlives the end of libvirtd and of all guests, and a loss of power; it is
    taken down; its guest comes back."""
    with real_cloud(tmp_path / "one", "--sim-hosts", "0") as cloud:
        other = RealCloud(tmp_path / "other", "--libvirt", "--sim-hosts", "0")
        other_namespace, other.namespace = other.namespace, cloud.namespace
        assert f"the cloud in {cloud.folder} has its host in this network namespace" in other.start_refused()
        cloud.end(signal.SIGTERM)
        eventually("nothing is left standing where no guest runs", lambda: not cloud.leftovers())

        cloud.start()
        left = cloud.create_server("left")
        cloud.becomes(left, "ACTIVE")
        cloud.end_all_guests()
        address, tap = address_of(cloud.server(left)), tap_name(port_id_of(cloud, left))

        # The power fails; when it is back, all that stood in the network still does (`make chaos` plays other remains).
        allow(cloud, protocol="icmp")
        eventually("it is started again, and answers", lambda: cloud.answers_ping(address))
        cloud.lose_power()
        cloud.start()
        eventually("it answers again", lambda: cloud.answers_ping(address))
        assert cloud.becomes(left, "ACTIVE")
        cloud.end(signal.SIGKILL)
        assert f"muster down --data {cloud.folder}" in other.start_refused()
        other.namespace = other_namespace
        other.remove()
        assert cloud.down() == "Removed: 1 guest, 1 DHCP server, 1 tap, 1 bridge, libvirtd, nftables rules\n"
        eventually("nothing stands", lambda: not cloud.leftovers())
        assert cloud.down() == "Nothing of its host runs or stands on this machine.\n"

        # To the host it was a loss of power: all comes back.
        cloud.start()
        eventually("it is all there again", lambda: len(traces(cloud, left, tap, address)) == len(ALL_TRACES))
        cloud.becomes(left, "ACTIVE")

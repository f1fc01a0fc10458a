"""A stock cloud image, booted as a guest of a whole cloud: what Debian with cloud-init makes of Muster.

Not part of an ordinary test run, since four boots of it under emulation take minutes: `make test-cloud-init` builds the
image (`scripts/build-cloud-init-image`) and runs these tests. There, something missing is a failure.
"""

import base64
import gzip
import json
import os
import re
from collections.abc import Iterator
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path
from typing import Any

import pytest
from real_cloud import BOOT_ID, RealCloud, address_of, allow, real_cloud
from tests.waiting import eventually

pytestmark = [pytest.mark.cloud_init, pytest.mark.system, pytest.mark.root, pytest.mark.timeout(3_600)]

#: Under emulation, on a busy machine; only a guest that hangs needs it.
BOOT_LIMIT_S = 1_200
RAM_MIB, DISK_GIB = 512, 5
MTU = 1400
#: cloud-init's last line of a boot on the console, with the time.
FINISHED = re.compile(r"Cloud-init .* finished at [^.]*")
# The image has no curl, but Python.
_FETCH = "python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())'"
#: What a guest is asked, all in one login, since a login costs seconds of emulated processor.
QUESTIONS = {
    "boot": BOOT_ID,
    "hostname": "hostname",
    "result": "cat /run/cloud-init/result.json",
    "complaints": "grep -e WARNING -e ERROR /var/log/cloud-init.log; systemctl --failed --quiet --no-legend",
    "instances": "ls /var/lib/cloud/instances; cat /var/lib/cloud/data/instance-id",
    "written": "cat /etc/muster-test",
    "user data": "sort /var/log/user-data",
    "host keys": "cut -d' ' -f2 /etc/ssh/ssh_host_*_key.pub",
    "root MiB": "df --output=size -B1M / | tail -1",
    "links": "ip -j address",
    "processor": "/lib64/ld-linux-x86-64.so.2 --help | grep -o 'x86-64-v. (supported'",
    "openstack": f"{_FETCH} http://169.254.169.254/openstack/latest/meta_data.json",
    "ec2": f"{_FETCH} http://169.254.169.254/latest/meta-data/local-ipv4",
}

CLOUD_CONFIG = """#cloud-config
write_files:
  - path: /etc/muster-test
    content: by cloud-config
runcmd:
  - [sh, -c, "echo config >> /var/log/user-data"]
"""
SCRIPT = "#!/bin/sh\necho script >> /var/log/user-data\n"


def multipart() -> bytes:
    """Both kinds in one, compressed: as tools send what would otherwise be too large."""
    message = MIMEMultipart()
    message.attach(MIMEText(CLOUD_CONFIG, "cloud-config", "us-ascii"))
    message.attach(MIMEText(SCRIPT, "x-shellscript", "us-ascii"))
    return gzip.compress(message.as_bytes())


def encoded(user_data: bytes) -> str:
    return base64.b64encode(user_data).decode()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCloud]:
    """A cloud with the image, a flavor that is larger than it, and a second network without a gateway."""
    image = os.environ.get("CLOUD_INIT_IMAGE", "")
    assert Path(image).is_file(), "CLOUD_INIT_IMAGE names no image; use: make test-cloud-init"
    with real_cloud(tmp_path_factory.mktemp("stock"), "--sim-hosts", "0") as cloud:
        cloud.login = "debian"
        public = cloud.key.with_suffix(".pub").read_text()
        cloud.ask("POST", "/compute/v2.1/os-keypairs", {"keypair": {"name": "mine", "public_key": public}})
        allow(cloud, protocol="icmp")
        allow(cloud, protocol="tcp", port_range_min=22, port_range_max=22)
        cloud.upload_image("debian-12", Path(image), min_disk=2)
        flavor = {"id": "cloud.tiny", "name": "cloud.tiny", "vcpus": 1, "ram": RAM_MIB, "disk": DISK_GIB}
        cloud.ask("POST", "/compute/v2.1/flavors", {"flavor": flavor})
        second = cloud.ask("POST", "/network/v2.0/networks", {"network": {"name": "second", "mtu": MTU}})["network"]
        subnet = {"network_id": second["id"], "ip_version": 4, "cidr": "10.99.0.0/24", "gateway_ip": None}
        cloud.ask("POST", "/network/v2.0/subnets", {"subnet": subnet})
        yield cloud


class Guest:
    """A server, and what it has said about itself when its cloud-init had last ended."""

    def __init__(self, cloud: RealCloud, name: str, **more: Any) -> None:
        self.cloud = cloud
        self.facts: dict[str, str] = {}
        self._finished = ""
        common = {"imageRef": image_of(cloud), "flavorRef": "cloud.tiny", "key_name": "mine"}
        self.id = cloud.create_server(name, **common, **more)

    @property
    def address(self) -> str:
        return address_of(self.cloud.server(self.id))

    def learn(self) -> dict[str, str]:
        """Wait for the end of cloud-init in its next boot, and ask."""
        self.cloud.becomes(self.id, "ACTIVE")
        # Looking by ssh would take the guest's only processor from what is waited for.
        self._finished = eventually(f"end of cloud-init in {self.id}", self._finished_anew, BOOT_LIMIT_S, every_s=2)
        separator = "=-=-=-="
        script = "\n".join(f"{{ {question}; }} 2>&1; echo {separator}" for question in QUESTIONS.values())
        said = eventually(f"ssh to {self.id}", lambda: self.cloud.ssh(self.address, script, timeout_s=300))
        answers = [answer.strip() for answer in said.split(separator)]
        self.facts = dict(zip(QUESTIONS, answers, strict=False))
        return self.facts

    def _finished_anew(self) -> str | None:
        """The newest end of cloud-init that the console tells, if it is another than at the last time."""
        told = FINISHED.findall(self.cloud.console(self.id))
        return told[-1] if told and told[-1] != self._finished else None

    def host_keys(self) -> set[str]:
        return set(self.facts["host keys"].split())


def image_of(cloud: RealCloud) -> str:
    return str(cloud.named("/image/v2/images", "debian-12")["id"])


@pytest.fixture(scope="module")
def guests(cloud: RealCloud) -> tuple[Guest, Guest]:
    """One with a config drive and two networks, one with the metadata service; both at the end of their first boot."""
    networks = [{"uuid": cloud.named("/network/v2.0/networks", name)["id"]} for name in ("default", "second")]
    sent = encoded(CLOUD_CONFIG.encode())
    drive = Guest(cloud, "Drive 1", networks=networks, config_drive=True, user_data=sent)
    service = Guest(cloud, "service-1", user_data=encoded(multipart()))
    for guest in (drive, service):
        guest.learn()
    return drive, service


def test_cloud_init_takes_openstacks_data_source_without_a_complaint(guests: tuple[Guest, Guest]) -> None:
    for guest, name in zip(guests, ("DataSourceConfigDrive", "DataSourceOpenStackLocal"), strict=True):
        result = json.loads(guest.facts["result"])["v1"]
        assert result["errors"] == []
        assert result["datasource"].split()[0] == name
        assert guest.facts["complaints"] == ""
        assert guest.facts["instances"].split() == [guest.id] * 2


def test_name_key_and_user_data(guests: tuple[Guest, Guest]) -> None:
    assert [guest.facts["hostname"] for guest in guests] == ["drive-1", "service-1"]
    assert [guest.facts["written"] for guest in guests] == ["by cloud-config"] * 2
    assert [guest.facts["user data"].split() for guest in guests] == [["config"], ["config", "script"]]


def test_processor_is_an_x86_64_v2(guests: tuple[Guest, Guest]) -> None:
    for guest in guests:
        assert "x86-64-v2 (supported" in guest.facts["processor"]


def test_host_keys_are_each_guests_own(guests: tuple[Guest, Guest]) -> None:
    drive, service = (guest.host_keys() for guest in guests)
    assert len(drive) == len(service) >= 3
    assert not drive & service


def test_root_has_grown_to_the_flavors_disk(guests: tuple[Guest, Guest]) -> None:
    for guest in guests:
        assert DISK_GIB * 1024 * 0.9 < int(guest.facts["root MiB"]) < DISK_GIB * 1024


def test_every_interface_is_up_with_its_address_and_mtu(cloud: RealCloud, guests: tuple[Guest, Guest]) -> None:
    links = {link["address"]: link for link in json.loads(guests[0].facts["links"])}
    ports = cloud.ask("GET", f"/network/v2.0/ports?device_id={guests[0].id}")["ports"]
    assert len(ports) == 2
    for port in ports:
        link = links[port["mac_address"]]
        mtu = cloud.ask("GET", f"/network/v2.0/networks/{port['network_id']}")["network"]["mtu"]
        addresses = {entry["local"] for entry in link["addr_info"] if entry["family"] == "inet"}
        assert (link["operstate"], link["mtu"]) == ("UP", mtu)
        assert addresses == {port["fixed_ips"][0]["ip_address"]}
        assert cloud.answers_ping(*addresses)
    assert MTU in {link["mtu"] for link in links.values()}


def test_metadata_service_answers_both_trees(guests: tuple[Guest, Guest]) -> None:
    for guest in guests:
        assert json.loads(guest.facts["openstack"])["uuid"] == guest.id
        assert guest.facts["ec2"] == guest.address


def test_soft_reboot_is_no_second_first_boot_and_rebuild_is_one(cloud: RealCloud, guests: tuple[Guest, Guest]) -> None:
    drive, service = guests
    before = [(guest.facts, guest.host_keys(), cloud.server(guest.id)["addresses"]) for guest in guests]
    cloud.act(drive.id, {"reboot": {"type": "SOFT"}})
    sent = encoded(SCRIPT.replace("script", "rebuilt").encode())
    cloud.act(service.id, {"rebuild": {"imageRef": image_of(cloud), "user_data": sent}})
    eventually("the guest has switched itself off", lambda: "reboot: Power down" in cloud.console(drive.id))
    for guest, (facts, _, addresses) in zip(guests, before, strict=True):
        guest.learn()
        assert guest.facts["boot"] != facts["boot"]
        assert guest.facts["complaints"] == ""
        assert guest.facts["instances"].split() == [guest.id] * 2
        assert cloud.server(guest.id)["addresses"] == addresses
    assert drive.host_keys() == before[0][1]
    assert drive.facts["user data"] == "config"
    assert not service.host_keys() & before[1][1]
    assert service.facts["user data"] == "rebuilt"


def test_stop_is_obeyed_by_the_guest_itself(cloud: RealCloud, guests: tuple[Guest, Guest]) -> None:
    service = guests[1]
    offs = cloud.console(service.id).count("reboot: Power down")
    cloud.act(service.id, {"os-stop": None})
    cloud.becomes(service.id, "SHUTOFF")
    assert cloud.console(service.id).count("reboot: Power down") == offs + 1

"""cloud-init's own code reads what Muster tells guests: the config drive, the metadata service, the network's data.

The code is Debian's package, unpacked and not installed: installed, it would run at this machine's next boot.
"""

import asyncio
import base64
import functools
import gzip
import json
import subprocess
import uuid
from collections.abc import Iterator
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path
from typing import Any

import msgspec
import pytest
from namespaces import inside

from muster.cli.built_guest import default_cache_dir
from muster.domain.specs import (
    FixedIp,
    HostRoute,
    InjectedFile,
    KeySpec,
    NetworkSpec,
    PortSpec,
    Power,
    ServerSpec,
    SubnetSpec,
)
from muster.guest import packages
from muster.host.metadata.config_drive import config_drive
from muster.host.metadata.openstack import Description
from muster.host.metadata.service import MetadataService, MetadataSettings

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PYTHON = "/usr/bin/python3"
#: cloud-init, and what its readers import.
NEEDED = (
    *("cloud-init", "python3-certifi", "python3-chardet", "python3-configobj", "python3-idna", "python3-requests"),
    *("python3-six", "python3-urllib3", "python3-yaml"),
)
RED, BLUE = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"
MACS = {"fa:16:3e:00:00:01": "ens3", "fa:16:3e:00:00:02": "ens4"}
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIuEu0tprtxt0aoSHpACjwFKPgaSuXHJTZguid4YQhVP me@home"
CLOUD_CONFIG = "#cloud-config\npackages: [vim]\n"
SCRIPT = "#!/bin/sh\necho hello\n"

DHCP = SubnetSpec(id="dhcp", ip_version=4, cidr="10.0.0.0/24", gateway_ip="10.0.0.1", dns_nameservers=("9.9.9.9",))
STATIC = SubnetSpec(
    id="static",
    ip_version=4,
    cidr="10.1.0.0/24",
    gateway_ip="10.1.0.1",
    dns_nameservers=("1.1.1.1",),
    host_routes=(HostRoute("172.16.0.0/12", "10.1.0.9"),),
    dhcp_enabled=False,
)
STATIC6 = SubnetSpec(id="static6", ip_version=6, cidr="fd01::/64", gateway_ip="fd01::1", dhcp_enabled=False)


def server(**more: Any) -> ServerSpec:
    ports = (
        PortSpec(id=RED, network_id=RED, mac_address="fa:16:3e:00:00:01", fixed_ips=(FixedIp("dhcp", "10.0.0.5"),)),
        PortSpec(
            id=BLUE,
            network_id=BLUE,
            mac_address="fa:16:3e:00:00:02",
            fixed_ips=(FixedIp("static", "10.1.0.5"), FixedIp("static6", "fd01::5")),
        ),
    )
    spec = ServerSpec(
        id="6f1ed002-ab5d-4a0c-8d6f-1d1f7a9a7f10",
        generation=1,
        project_id="project",
        user_id="user",
        name="Wéb 1",
        hostname="web-1",
        power=Power.RUNNING,
        flavor_name="m1.tiny",
        ports=ports,
        key=KeySpec("mine", KEY),
        metadata={"role": "web"},
    )
    return msgspec.structs.replace(spec, **more)


def description(**more: Any) -> Description:
    networks = {
        RED: NetworkSpec(id=RED, generation=1, segment_id=1, mtu=1450, subnets=(DHCP,)),
        BLUE: NetworkSpec(id=BLUE, generation=1, segment_id=2, mtu=1400, subnets=(STATIC, STATIC6)),
    }
    return Description(server=server(**more), networks=networks, random_seed=bytes(512), domain="example.org")


def user_data(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope="session")
def cloud_init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of cloud-init's Python code; its packages are downloaded once."""
    cache, folder = default_cache_dir(), tmp_path_factory.mktemp("cloud-init")
    cache.mkdir(parents=True, exist_ok=True)
    for deb in packages.fetch(packages.named(NEEDED), cache, lambda step: None).values():
        subprocess.run(["dpkg-deb", "-x", deb, folder], check=True, timeout=300)
    return folder / "usr/lib/python3/dist-packages"


def understood(cloud_init: Path, kind: str, source: str) -> dict[str, Any]:
    reader = Path(__file__).with_name("cloud_init_reader.py")
    command = [PYTHON, "-I", "-W", "ignore", reader, cloud_init, kind, source, json.dumps(MACS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def from_drive(cloud_init: Path, tmp_path: Path, described: Description) -> dict[str, Any]:
    """What cloud-init makes of the drive, read from the very image that a guest gets."""
    image, folder = tmp_path / "config.iso", tmp_path / "drive"
    image.write_bytes(config_drive(described))
    unpack = ["xorriso", "-osirrox", "on", "-indev", f"stdio:{image}", "-extract", "/", folder]
    subprocess.run(unpack, check=True, capture_output=True, timeout=300)
    return understood(cloud_init, "drive", str(folder))


def check_identity(found: dict[str, Any]) -> None:
    metadata = found["metadata"]
    assert metadata["instance-id"] == "6f1ed002-ab5d-4a0c-8d6f-1d1f7a9a7f10"
    assert metadata["local-hostname"] == "web-1.example.org"
    assert metadata["name"] == "Wéb 1"
    assert metadata["meta"] == {"role": "web"}
    assert metadata["availability_zone"] == "nova"
    assert metadata["random_seed"] == 512
    assert found["ssh_keys"] == [KEY]
    assert found["vendor"] == [None, None]
    assert found["ec2-metadata"]["hostname"] == "web-1.example.org"
    assert found["ec2-metadata"]["block-device-mapping"] == {"ami": "vda", "root": "/dev/vda"}
    assert found["ec2-metadata"]["placement"] == {"availability-zone": "nova"}


def check_network(network: dict[str, Any]) -> None:
    assert network["netplan"] == {
        "network": {
            "version": 2,
            "ethernets": {
                "ens3": {
                    "match": {"macaddress": "fa:16:3e:00:00:01"},
                    "set-name": "ens3",
                    "mtu": 1450,
                    "dhcp4": True,
                },
                "ens4": {
                    "match": {"macaddress": "fa:16:3e:00:00:02"},
                    "set-name": "ens4",
                    "mtu": 1400,
                    "accept-ra": False,
                    "addresses": ["10.1.0.5/24", "fd01::5/64"],
                    "nameservers": {"addresses": ["9.9.9.9", "1.1.1.1"], "search": []},
                    "routes": [
                        {"to": "0.0.0.0/0", "via": "10.1.0.1"},
                        {"to": "172.16.0.0/12", "via": "10.1.0.9"},
                        {"to": "::/0", "via": "fd01::1"},
                    ],
                },
            },
        }
    }
    assert "iface ens3 inet dhcp\n" in network["eni"]
    assert "iface ens4 inet static\n    address 10.1.0.5/24\n" in network["eni"]


def test_config_drive_is_read(cloud_init: Path, tmp_path: Path) -> None:
    found = from_drive(cloud_init, tmp_path, description(user_data=user_data(CLOUD_CONFIG.encode())))
    check_identity(found)
    check_network(found["network"])
    assert found["userdata"]["parts"] == [["text/cloud-config", CLOUD_CONFIG]]


def test_guest_without_key_and_user_data_is_read(cloud_init: Path, tmp_path: Path) -> None:
    found = from_drive(cloud_init, tmp_path, description(key=None, metadata={}))
    assert (found["ssh_keys"], found["userdata"]) == ([], "")


def test_injected_files_are_read(cloud_init: Path, tmp_path: Path) -> None:
    files = {"/etc/motd": user_data(b"\0\xff"), "/root/a b": user_data(b"")}
    injected = tuple(InjectedFile(path, contents) for path, contents in files.items())
    assert from_drive(cloud_init, tmp_path, description(injected_files=injected))["files"] == files


def test_network_that_the_host_does_not_know_yet_is_asked_by_dhcp(cloud_init: Path, tmp_path: Path) -> None:
    ports = (msgspec.structs.replace(server().ports[0], network_id=BLUE),)
    found = from_drive(cloud_init, tmp_path, Description(server=server(ports=ports)))
    [(name, interface)] = found["network"]["netplan"]["network"]["ethernets"].items()
    assert (name, interface["dhcp4"], interface.get("mtu")) == ("ens3", True, None)


def multipart() -> bytes:
    message = MIMEMultipart()
    message.attach(MIMEText(CLOUD_CONFIG, "cloud-config", "us-ascii"))
    message.attach(MIMEText(SCRIPT, "x-shellscript", "us-ascii"))
    return message.as_bytes()


@pytest.mark.parametrize(
    ("sent", "parts"),
    [
        (SCRIPT.encode(), [["text/x-shellscript", SCRIPT]]),
        (gzip.compress(CLOUD_CONFIG.encode()), [["text/cloud-config", CLOUD_CONFIG]]),
        (multipart(), [["text/cloud-config", CLOUD_CONFIG], ["text/x-shellscript", SCRIPT]]),
        (gzip.compress(multipart()), [["text/cloud-config", CLOUD_CONFIG], ["text/x-shellscript", SCRIPT]]),
    ],
    ids=["script", "gzip", "multipart", "multipart in gzip"],
)
def test_user_data_in_all_its_forms(cloud_init: Path, tmp_path: Path, sent: bytes, parts: list[list[str]]) -> None:
    found = from_drive(cloud_init, tmp_path, description(user_data=user_data(sent)))
    assert base64.b64decode(found["userdata"]["raw"]) == sent
    assert found["userdata"]["parts"] == parts


def test_drive_is_found_by_its_label(tmp_path: Path) -> None:
    image = tmp_path / "config.iso"
    image.write_bytes(config_drive(description()))
    told = subprocess.run(
        ["blkid", "-p", "-o", "export", image], check=True, capture_output=True, text=True, timeout=300
    )
    assert {"LABEL=config-2", "TYPE=iso9660"} <= set(told.stdout.split())


@pytest.fixture
def namespaces() -> Iterator[tuple[str, str]]:
    """A host with the interface `tap`, and the guest behind it at 10.0.0.5."""
    mark = uuid.uuid4().hex[:8]
    host, guest = f"muster-ci-host-{mark}", f"muster-ci-guest-{mark}"
    commands = [
        f"netns add {host}",
        f"netns add {guest}",
        f"-n {host} link add tap type veth peer name eth0 netns {guest}",
        f"-n {host} addr add 10.0.0.2/24 dev tap",
        f"-n {host} addr add 169.254.169.254/32 dev tap",
        f"-n {host} link set tap up",
        f"-n {guest} addr add 10.0.0.5/24 dev eth0",
        f"-n {guest} link set eth0 up",
        f"-n {guest} route add 169.254.169.254/32 dev eth0",
    ]
    try:
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True, capture_output=True, timeout=120)
        yield host, guest
    finally:
        for namespace in (host, guest):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=120, check=False)


@pytest.mark.root
def test_metadata_service_is_read(cloud_init: Path, namespaces: tuple[str, str]) -> None:
    host, guest = namespaces
    described = description(user_data=user_data(SCRIPT.encode()))

    async def serve() -> dict[str, Any]:
        service = MetadataService(MetadataSettings(bridge_of=lambda network_id: "tap"))
        service.set_servers([described])
        await service.set_networks([RED])
        try:
            ask = functools.partial(understood, cloud_init, "service", "http://169.254.169.254")
            return await asyncio.to_thread(inside, guest, ask)
        finally:
            await service.close()

    found = inside(host, lambda: asyncio.run(serve()))
    check_identity(found)
    check_network(found["network"])
    assert found["userdata"] == found["ec2-userdata"]
    assert found["userdata"]["parts"] == [["text/x-shellscript", SCRIPT]]

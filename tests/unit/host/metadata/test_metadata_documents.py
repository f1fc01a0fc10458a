import base64
import json
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from muster.base.errors import Invalid
from muster.domain.specs import (
    FixedIp,
    HostRoute,
    ImageSpec,
    InjectedFile,
    KeySpec,
    NetworkSpec,
    PortSpec,
    Power,
    ServerSpec,
    SubnetSpec,
)
from muster.host.metadata import ec2, openstack
from muster.host.metadata.config_drive import config_drive, drive_files
from muster.host.metadata.openstack import Description
from muster.host.metadata.tree import answer, service_files

SUBNET = SubnetSpec(
    id="s4",
    ip_version=4,
    cidr="10.0.0.0/24",
    gateway_ip="10.0.0.1",
    dns_nameservers=("9.9.9.9",),
    host_routes=(HostRoute("172.16.0.0/12", "10.0.0.9"),),
)
SUBNET6 = SubnetSpec(id="s6", ip_version=6, cidr="fd00::/64", gateway_ip="fd00::1", ipv6_address_mode="dhcpv6-stateful")
NETWORK = NetworkSpec(id="net", generation=1, segment_id=7, mtu=1450, subnets=(SUBNET, SUBNET6))
SERVER = ServerSpec(
    id="6f1ed002-ab5d-4a0c-8d6f-1d1f7a9a7f10",
    generation=1,
    project_id="project",
    user_id="user",
    name='na"me é',
    hostname="na-me",
    power=Power.RUNNING,
    flavor_name="m1.tiny",
    image=ImageSpec(id="a1b2c3d4-0000-4000-8000-000000000000", disk_format="raw", size_bytes=1, sha512=""),
    ports=(
        PortSpec(
            id="11111111-2222-4333-8444-555555555555",
            network_id="net",
            mac_address="fa:16:3e:00:00:01",
            fixed_ips=(FixedIp("s6", "fd00::5"), FixedIp("s4", "10.0.0.5")),
        ),
        PortSpec(id="21111111-2222-4333-8444-555555555555", network_id="other", mac_address="fa:16:3e:00:00:02"),
    ),
    key=KeySpec("my key", "ssh-ed25519 AAAA me"),
    user_data=base64.b64encode(b"#!/bin/sh\n\0\xff").decode(),
    metadata={"a": "b"},
)
BARE = msgspec.structs.replace(SERVER, key=None, user_data=None, metadata={}, ports=(), image=None)
DESCRIPTION = Description(server=SERVER, networks={"net": NETWORK}, random_seed=b"\0\1", domain="example.org.")


def test_a_host_name_that_has_a_domain_keeps_it() -> None:
    server = msgspec.structs.replace(SERVER, hostname="db.internal")
    assert openstack.hostname_of(server, "example.org.") == "db.internal"


def test_meta_data_is_novas() -> None:
    assert openstack.meta_data(DESCRIPTION) == {
        "uuid": SERVER.id,
        "meta": {"a": "b"},
        "public_keys": {"my key": "ssh-ed25519 AAAA me"},
        "keys": [{"name": "my key", "type": "ssh", "data": "ssh-ed25519 AAAA me"}],
        "hostname": "na-me.example.org",
        "name": 'na"me é',
        "launch_index": 0,
        "availability_zone": "nova",
        "random_seed": "AAE=",
        "project_id": "project",
        "devices": [],
    }
    assert openstack.meta_data(Description(server=BARE)) == {
        "uuid": SERVER.id,
        "hostname": "na-me",
        "name": 'na"me é',
        "launch_index": 0,
        "availability_zone": "nova",
        "project_id": "project",
        "devices": [],
    }


@pytest.mark.parametrize(
    ("version", "new_files", "new_keys"),
    [
        ("2012-08-10", {"meta_data.json", "user_data"}, set()),
        ("2013-04-04", set(), {"random_seed"}),
        ("2013-10-17", {"vendor_data.json"}, set()),
        ("2015-10-15", {"network_data.json"}, {"keys", "project_id"}),
        ("2016-06-30", set(), {"devices"}),
        ("2016-10-06", {"vendor_data2.json"}, set()),
        ("2017-02-22", set(), set()),
        ("2018-08-27", set(), set()),
        ("latest", set(), set()),
    ],
)
def test_each_version_has_what_came_with_it(version: str, new_files: set[str], new_keys: set[str]) -> None:
    versions = [*openstack.VERSIONS, "latest"]
    older = versions[versions.index(version) - 1] if version != versions[0] else None
    files = openstack.files(DESCRIPTION)

    def names(of: str) -> set[str]:
        return {path.split("/")[2] for path in files if path.startswith(f"openstack/{of}/")}

    def keys(of: str) -> set[str]:
        return set(json.loads(files[f"openstack/{of}/meta_data.json"]))

    assert names(version) - (names(older) if older else set()) == new_files
    if older:
        assert names(older) <= names(version)
        assert keys(version) - keys(older) == new_keys


def test_user_data_is_what_was_sent() -> None:
    assert openstack.files(DESCRIPTION)["openstack/latest/user_data"] == b"#!/bin/sh\n\0\xff"
    assert "openstack/latest/user_data" not in openstack.files(Description(server=BARE))
    assert "latest/user-data" not in ec2.files(BARE)
    with pytest.raises(Invalid):
        openstack.files(Description(server=msgspec.structs.replace(BARE, user_data="a")))


def test_network_data() -> None:
    document = openstack.network_data(DESCRIPTION)
    assert document["links"] == [
        {
            "id": "tap11111111-22",
            "vif_id": "11111111-2222-4333-8444-555555555555",
            "type": "bridge",
            "mtu": 1450,
            "ethernet_mac_address": "fa:16:3e:00:00:01",
        },
        {
            "id": "tap21111111-22",
            "vif_id": "21111111-2222-4333-8444-555555555555",
            "type": "bridge",
            "mtu": None,
            "ethernet_mac_address": "fa:16:3e:00:00:02",
        },
    ]
    six, four = document["networks"]
    assert six["type"] == "ipv6_dhcpv6-stateful"
    assert (six["ip_address"], six["netmask"]) == ("fd00::5", "ffff:ffff:ffff:ffff::")
    assert six["routes"] == [{"network": "::", "netmask": "::", "gateway": "fd00::1"}]
    assert four == {"id": "network1", "type": "ipv4_dhcp", "link": "tap11111111-22", "network_id": "net"}
    assert document["services"] == [{"type": "dns", "address": "9.9.9.9"}]


def test_network_data_without_dhcp_says_all() -> None:
    static = msgspec.structs.replace(SUBNET, dhcp_enabled=False)
    networks = {"net": msgspec.structs.replace(NETWORK, subnets=(static,))}
    four = openstack.network_data(Description(server=SERVER, networks=networks))["networks"][1]
    assert four["type"] == "ipv4"
    assert (four["ip_address"], four["netmask"]) == ("10.0.0.5", "255.255.255.0")
    assert four["routes"] == [
        {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"},
        {"network": "172.16.0.0", "netmask": "255.240.0.0", "gateway": "10.0.0.9"},
    ]
    assert four["services"] == [{"type": "dns", "address": "9.9.9.9"}]


def ask(path: str, description: Description = DESCRIPTION) -> str | None:
    key = description.server.key
    content = answer(service_files(description), path, key.name if key else None)
    return content.decode(errors="replace") if content is not None else None


def test_ec2_tree_is_walked_as_cloud_init_does() -> None:
    assert ask("/")
    assert "openstack" not in str(ask("/"))
    assert ask("/latest/") == "meta-data/\nuser-data"
    listing = str(ask("/2009-04-04/meta-data/")).split("\n")
    assert {"hostname", "instance-id", "local-ipv4", "placement/", "public-keys/"} <= set(listing)
    assert ask("latest/meta-data/instance-id") == "i-6f1ed002ab5d4a0c8"
    assert ask("/latest//meta-data/local-ipv4") == "10.0.0.5"
    assert ask("/latest/meta-data/public-keys/") == "0=my key"
    assert ask("/latest/meta-data/public-keys/0") == "openssh-key"
    assert ask("/latest/meta-data/public-keys/0/openssh-key") == "ssh-ed25519 AAAA me"
    assert ask("/latest/meta-data/hostname") == "na-me.example.org"
    assert ask("/1.0/meta-data/instance-type") == "m1.tiny"
    assert ask("/latest/meta-data/public-keys/", Description(server=BARE)) is None
    assert ask("/latest/meta-data/local-ipv4", Description(server=BARE)) == ""


def test_ec2_document_of_the_config_drive_has_folders_as_objects() -> None:
    document = json.loads(drive_files(DESCRIPTION)["ec2/latest/meta-data.json"])
    assert document["placement"] == {"availability-zone": "nova"}
    assert document["block-device-mapping"] == {"ami": "vda", "root": "/dev/vda"}
    assert document["public-keys"] == {"0": {"openssh-key": "ssh-ed25519 AAAA me", "_name": "0=my key"}}
    assert "public-keys" not in ec2.document(BARE)
    assert not any("/" in name for name in document)


def test_openstack_tree_lists_versions() -> None:
    assert str(ask("/openstack")).split("\n") == [*openstack.VERSIONS, "latest"]
    assert str(ask("/openstack/2012-08-10/")).split("\n") == ["meta_data.json", "user_data"]


def test_injected_files_are_told_and_given() -> None:
    files = (InjectedFile("/etc/a b", base64.b64encode(b"\0\xff").decode()), InjectedFile("/etc/é", ""))
    description = msgspec.structs.replace(DESCRIPTION, server=msgspec.structs.replace(BARE, injected_files=files))
    told = openstack.meta_data(description, "2012-08-10")["files"]
    assert [one["path"] for one in told] == ["/etc/a b", "/etc/é"]
    tree = drive_files(description)
    assert [tree["openstack" + one["content_path"]] for one in told] == [b"\0\xff", b""]
    listed = answer(service_files(description), "/openstack", None)
    assert listed is not None
    assert b"content" not in listed
    assert "files" not in openstack.meta_data(DESCRIPTION)


@pytest.mark.parametrize(
    "path", ["/latest/meta-data/hostname/x", "/../etc/passwd", "/openstack/latest/..", "/late", "/x"]
)
def test_what_is_not_in_the_tree_is_not_found(path: str) -> None:
    assert ask(path) is None


@pytest.mark.skipif(shutil.which("xorriso") is None, reason="xorriso is not installed")
def test_config_drive_is_read_by_another_program(tmp_path: Path) -> None:
    image, out = tmp_path / "image", tmp_path / "out"
    image.write_bytes(config_drive(DESCRIPTION))
    told = subprocess.run(
        ["xorriso", "-indev", f"stdio:{image}", "-pvd_info", "-osirrox", "on", "-extract", "/", out],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Volume Id    : config-2" in told.stdout
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert found == drive_files(DESCRIPTION)
    assert json.loads(found["ec2/latest/meta-data.json"])["hostname"] == "na-me.example.org"


def test_config_drive_is_small_and_whole_sectors() -> None:
    image = config_drive(DESCRIPTION)
    assert len(image) % 2_048 == 0
    assert len(image) < 500_000
    assert image[16 * 2_048 + 40 : 16 * 2_048 + 72].rstrip() == b"config-2"

"""Which combination of versions a server runs on."""

import json
from pathlib import Path

import pytest

from muster.base.errors import Invalid
from muster.client.bodies import Hypervisor, Server
from muster.soak.versions import NOWHERE, UNKNOWN, Versions, read_versions

ON_ONE = Server("1", host="one", hypervisor="one.example.org")


def test_the_cloud_tells_of_the_hypervisor_and_files_tell_the_rest(tmp_path: Path) -> None:
    (tmp_path / "hosts.toml").write_text('[one]\nkernel = "6.1.76"\ndnsmasq = "2.90"\n[two]\nkernel = "6.1.90"\n')
    versions = Versions(read_versions([str(tmp_path / "hosts.toml")]))
    versions.learn([Hypervisor("one.example.org", "QEMU", 7_002_009), Hypervisor("two.example.org", "sim", 1)])
    assert versions.combination(ON_ONE) == "kernel 6.1.76, qemu 7.2.9, dnsmasq 2.90"
    assert (
        versions.combination(Server("2", host="two.example.org", hypervisor="two.example.org"))
        == "kernel 6.1.90, sim 1"
    )
    assert versions.hosts()["kernel 6.1.90, sim 1"] == ["two.example.org"]


def test_what_the_doctor_said_on_a_host_counts_more_than_what_the_cloud_tells(tmp_path: Path) -> None:
    said = {"host": "one.example.org", "versions": {"qemu": "7.2.11", "kernel": "6.1.76"}, "findings": []}
    (tmp_path / "one.json").write_text(json.dumps(said))
    versions = Versions(read_versions([str(tmp_path / "one.json")]))
    versions.learn([Hypervisor("one", "QEMU", 7_002_009)])
    assert versions.combination(Server("1", host="one", hypervisor="one")) == "kernel 6.1.76, qemu 7.2.11"


def test_who_is_no_administrator_knows_hosts_by_a_word_that_can_be_named(tmp_path: Path) -> None:
    versions = Versions({"d4f3": {"kernel": "6.1"}})
    assert versions.combination(Server("1", host_id="d4f3")) == "kernel 6.1"
    assert versions.combination(Server("1", host_id="77")) == UNKNOWN
    assert versions.combination(Server("1")) == versions.combination(None) == NOWHERE


def test_hosts_that_are_named_by_addresses_or_alike_are_not_taken_for_one_another() -> None:
    """What stands before the first dot was the host's name: 10.0.0.5 and 10.0.0.6 were both 10."""
    versions = Versions(
        {"10.0.0.5": {"kernel": "5"}, "10.0.0.6": {"qemu": "6"}, "n.a": {"kernel": "1"}, "n.b": {"qemu": "2"}}
    )
    said = {
        name: versions.combination(Server("1", host=name))
        for name in ("10.0.0.5", "10.0.0.7", "n.a", "n.b", "n.c", "n")
    }
    assert said == {
        "10.0.0.5": "kernel 5", "10.0.0.7": UNKNOWN, "n.a": "kernel 1", "n.b": "qemu 2", "n.c": UNKNOWN, "n": UNKNOWN,
    }  # fmt: skip


def test_what_is_said_of_any_of_a_hosts_names_counts_more_than_what_is_told_of_another() -> None:
    versions = Versions({"one": {"qemu": "7.2.11"}})
    versions.learn([Hypervisor("qemu7.example.org", "QEMU", 7_002_009)])
    assert versions.combination(Server("1", host="one", hypervisor="qemu7.example.org")) == "qemu 7.2.11"


@pytest.mark.parametrize("text", ["one: {dnsmasq: 2.90}", "one: {qemu: 9}", "one: {qemu: }"])
def test_a_version_without_quotes_is_another_version(tmp_path: Path, text: str) -> None:
    (tmp_path / "hosts.yaml").write_text(text)
    with pytest.raises(Invalid, match="in quotes"):
        read_versions([str(tmp_path / "hosts.yaml")])


@pytest.mark.parametrize("text", ['{"findings": []}', '{"one": "6.1"}', '{"findings": [], "host": "", "versions": {}}'])
def test_a_file_that_says_nothing_of_hosts_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(Invalid, match=r"bad\.json"):
        read_versions([str(tmp_path / "bad.json")])

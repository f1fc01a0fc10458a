"""What `muster up --libvirt` says where real guests cannot be had."""

from pathlib import Path

import pytest

from muster.base.errors import Unsupported
from muster.cli import requirements
from muster.cli.down import described
from muster.host.network import TornDown
from muster.host.takedown import Removed


@pytest.fixture(autouse=True)
def _all_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 0)
    monkeypatch.setattr(requirements, "_lacking_capabilities", list)
    monkeypatch.setattr(requirements, "_missing_packages", set)
    monkeypatch.setattr(requirements, "_TUN", tmp_path)


def test_with_all_there_it_says_nothing() -> None:
    requirements.require_real_guests()


@pytest.mark.parametrize(
    ("what", "found", "said"),
    [
        ("_lacking_capabilities", lambda: ["CAP_NET_ADMIN"], "CAP_NET_ADMIN, which root does not have here"),
        ("_missing_packages", lambda: {"tini", "dnsmasq-base"}, "--no-install-recommends dnsmasq-base tini"),
        ("_TUN", Path("/nowhere"), "modprobe tun"),
    ],
)
def test_it_says_what_is_missing_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, what: str, found: object, said: str
) -> None:
    monkeypatch.setattr(requirements, what, found)
    with pytest.raises(Unsupported, match=said):
        requirements.require_real_guests()


def test_without_root_it_says_so_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 1000)
    with pytest.raises(Unsupported, match="need root"):
        requirements.real_host_opener()


def test_without_its_python_packages_it_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'libvirt'")

    monkeypatch.setattr(requirements.importlib, "import_module", missing)
    with pytest.raises(Unsupported, match=r"No module named 'libvirt'.*pip install libvirt-python"):
        requirements.real_host_opener()


def test_what_was_removed_is_said_in_words() -> None:
    network = TornDown(dhcp_servers=1, bridges=2, taps=0, rules=True)
    removed = Removed(guests=3, libvirtd=True, network=network)
    assert described(removed) == ["3 guests", "1 DHCP server", "2 bridges", "libvirtd", "nftables rules"]
    assert described(Removed()) == []

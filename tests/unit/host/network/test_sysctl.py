"""Switches of interfaces, on a kernel that has not all of them."""

from pathlib import Path

import pytest

from muster.base.errors import Unsupported
from muster.host.network import sysctl


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sysctl, "_ROOT", tmp_path)
    return tmp_path


def test_a_kernel_without_ipv6_has_networks_all_the_same(root: Path) -> None:
    """With `ipv6.disable=1` no network could once be made."""
    sysctl.write("ipv6", "brq1", {"disable_ipv6": "1"})
    folder = root / "ipv4" / "conf" / "brq1"
    folder.mkdir(parents=True)
    (folder / "rp_filter").write_text("0")
    sysctl.write("ipv4", "brq1", {"rp_filter": "2"})
    assert (folder / "rp_filter").read_text() == "2"


def test_a_switch_that_cannot_be_set_is_named(root: Path) -> None:
    (root / "ipv4" / "conf" / "brq1" / "rp_filter").mkdir(parents=True)
    with pytest.raises(Unsupported, match="brq1/rp_filter"):
        sysctl.write("ipv4", "brq1", {"rp_filter": "2"})

"""Who this machine is to a cloud, and whose its network namespace is. Nothing stands in it here."""

from pathlib import Path

import msgspec
import pytest

from muster.base.errors import Conflict, Invalid
from muster.host import machine
from muster.host.machine import (
    Layout,
    claimed_namespace,
    forget_libvirtd,
    give_up_namespace,
    known_machine,
    owns_namespace,
    this_machine,
)
from muster.host.namespace import find, own_namespace


def test_a_host_stays_who_it_is(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert known_machine(layout) is None
    first = this_machine(layout)
    assert this_machine(layout) == first == known_machine(layout)
    assert first.namespace == own_namespace()
    assert layout.root.stat().st_mode & 0o077 == 0
    elsewhere = msgspec.structs.replace(first, namespace=msgspec.structs.replace(first.namespace, inode=1))
    (layout.root / "identity.json").write_bytes(msgspec.json.encode(elsewhere))
    assert this_machine(layout) == first
    (layout.root / "identity.json").write_text("{")
    with pytest.raises(Conflict, match="is damaged"):
        known_machine(layout)


def test_a_libvirtd_is_where_its_sockets_have_names_short_enough(tmp_path: Path) -> None:
    assert Layout(Path("/short")).libvirtd("id", tmp_path) == Path("/short/host/libvirtd")
    long = Layout(Path("/" + "long" * 30))
    assert long.libvirtd("id", tmp_path) == tmp_path / "id"


def test_what_a_libvirtd_left_outside_of_the_folder_goes(tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    for folder in (tmp_path / "c", tmp_path / ("long" * 30)):
        layout = Layout(folder)
        host = this_machine(layout)
        directory = layout.libvirtd(host.host_id, runtime)
        directory.mkdir(parents=True)
        forget_libvirtd(layout, host, runtime)
        assert directory.exists() == directory.is_relative_to(folder)


def test_a_namespace_has_one_cloud_at_a_time(tmp_path: Path) -> None:
    one, other, runtime = Layout(tmp_path / "one"), Layout(tmp_path / "other"), tmp_path / "run"
    assert not owns_namespace(one, runtime)
    with claimed_namespace(one, runtime):
        assert owns_namespace(one, runtime)
        with (
            pytest.raises(Conflict, match=f"the cloud in {one.folder} has its host"),
            claimed_namespace(other, runtime),
        ):
            pass
    assert owns_namespace(one, runtime)
    with claimed_namespace(one, runtime):
        pass
    with claimed_namespace(other, runtime):  # nothing of the first stands
        assert owns_namespace(other, runtime)
        assert not owns_namespace(one, runtime)


def test_what_stands_keeps_a_namespace_for_its_cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other, runtime = Layout(tmp_path / "one"), Layout(tmp_path / "other"), tmp_path / "run"
    with claimed_namespace(one, runtime):
        pass
    monkeypatch.setattr(machine, "_bridges_stand", lambda: True)
    with pytest.raises(Conflict, match=f"muster down --data {one.folder}"), claimed_namespace(other, runtime):
        pass
    with claimed_namespace(one, runtime):
        give_up_namespace(runtime)
    with claimed_namespace(other, runtime):
        assert owns_namespace(other, runtime)


def test_a_namespace_is_found_again_in_this_boot_only() -> None:
    own = own_namespace()
    assert find(own) is not None
    assert find(msgspec.structs.replace(own, inode=1)) is None
    assert find(msgspec.structs.replace(own, boot_id="another boot")) is None


def test_an_address_of_another_machine_is_refused() -> None:
    machine.check_is_here("127.0.0.1")
    for elsewhere in ("192.0.2.1", "nonsense", "2001:db8::1"):
        with pytest.raises(Invalid, match="not an address of this machine"):
            machine.check_is_here(elsewhere)

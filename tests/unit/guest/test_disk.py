"""The master boot record, the boot area and the file system's commands."""

import struct
from pathlib import Path

import pytest

from muster.base.errors import Bug, Invalid
from muster.base.units import MIB
from muster.guest.disk import boot_area, master_boot_record
from muster.guest.ext4 import commands
from muster.guest.tree import directory, file, link, with_parents


def test_one_active_linux_partition() -> None:
    sector = master_boot_record(b"\xeb" * 512, MIB, 127 * MIB)
    assert len(sector) == 512
    assert sector[:440] == b"\xeb" * 440
    assert sector[510:] == b"\x55\xaa"
    status, kind, start, count = struct.unpack("<B3xB3xII", sector[446:462])
    assert (status, kind, start, count) == (0x80, 0x83, 2048, 127 * 2048)
    assert sector[462:510] == bytes(48)


def test_boot_loader_must_fit_before_the_partition() -> None:
    assert len(boot_area(bytes(512), bytes(MIB - 512))) == MIB
    with pytest.raises(Bug):
        boot_area(bytes(512), bytes(MIB - 511))


def test_commands_create_the_tree_with_its_modes(tmp_path: Path) -> None:
    tree = with_parents({"etc/a b": file(b"text", 0o600), "bin": link("/usr/bin"), "root": directory(0o700)})
    said = list(commands(tree, tmp_path))
    assert said == [
        'cd "/"',
        'symlink "bin" "/usr/bin"',
        'cd "/"',
        'mkdir "etc"',
        'set_inode_field "etc" mode 040755',
        'cd "/etc"',
        f'write "{tmp_path}/2" "a b"',
        'set_inode_field "a b" mode 0100600',
        'cd "/"',
        'mkdir "root"',
        'set_inode_field "root" mode 040700',
    ]
    assert (tmp_path / "2").read_bytes() == b"text"


@pytest.mark.parametrize("name", ['a"b', "a\nrm b", "ä"])
def test_names_that_debugfs_would_not_take_literally_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid):
        list(commands({name: file(b"")}, tmp_path))

import json
import shutil
import struct
import subprocess
from pathlib import Path

import msgspec
import pytest

from muster.base.errors import Invalid
from muster.base.units import GIB, MIB
from muster.host.qcow2 import Header, read_header, require_self_contained, write_empty, write_overlay

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def qemu_img(*words: object) -> str:
    command = ["qemu-img", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


@needs_qemu_img
@pytest.mark.parametrize("size", [512, 1, 10 * GIB + 1, 512 * MIB, 512 * MIB + 512, 5_000 * GIB, 1 << 50])
@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_an_overlay_is_what_qemu_img_makes(tmp_path: Path, size: int, kind: str) -> None:
    base = tmp_path / "base"
    qemu_img("create", "-q", "-f", kind, base, "1M")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    write_overlay(ours, virtual_size=size, backing=base, backing_format=kind)
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", kind, theirs, -(-size // 512) * 512)
    qemu_img("check", "-q", ours)
    described = [json.loads(qemu_img("info", "--output=json", path)) for path in (ours, theirs)]
    for description in described:
        for name in ("filename", "actual-size", "children"):
            description.pop(name, None)
    assert described[0] == described[1]
    # The same clusters in the same places; qemu-img leaves the last one short.
    assert ours.read_bytes()[65_536:] == theirs.read_bytes()[65_536:].ljust(ours.stat().st_size - 65_536, b"\0")
    assert ours.stat().st_mode & 0o077 == 0


@needs_qemu_img
def test_an_overlay_shows_its_base_and_keeps_what_is_written(tmp_path: Path) -> None:
    base, overlay, flat = tmp_path / "base", tmp_path / "overlay", tmp_path / "flat"
    content = b"base" * (MIB // 4)
    base.write_bytes(content)
    write_overlay(overlay, virtual_size=2 * MIB, backing=base, backing_format="raw")
    qemu_img("convert", "-O", "raw", overlay, flat)
    assert flat.read_bytes() == content + bytes(MIB)
    qemu_img("bench", "-w", "-c", "8", "-f", "qcow2", "--pattern=7", overlay)
    qemu_img("check", "-q", overlay)
    assert base.read_bytes() == content


@needs_qemu_img
@pytest.mark.parametrize("size", [512, 128 * MIB, 5_000 * GIB])
def test_an_empty_image_is_one(tmp_path: Path, size: int) -> None:
    path = tmp_path / "empty"
    write_empty(path, virtual_size=size)
    qemu_img("check", "-q", path)
    described = json.loads(qemu_img("info", "--output=json", path))
    assert (described["format"], described["virtual-size"]) == ("qcow2", size)
    assert "backing-filename" not in described
    require_self_contained(read_header(path))


def test_sizes_and_names_that_qcow2_cannot_hold(tmp_path: Path) -> None:
    for size in (0, -1, (1 << 50) + 1):
        with pytest.raises(Invalid):
            write_overlay(tmp_path / "x", virtual_size=size, backing=Path("/b"), backing_format="raw")
    for name in ("nbd:localhost:1", "/" + "x" * 1_100):
        with pytest.raises(Invalid):
            write_overlay(tmp_path / "x", virtual_size=512, backing=Path(name), backing_format="raw")
    assert not (tmp_path / "x").exists()
    (tmp_path / "x").touch()
    with pytest.raises(FileExistsError):
        write_overlay(tmp_path / "x", virtual_size=512, backing=Path("/b"), backing_format="raw")


def header(**changes: bool) -> Header:
    fields = {"has_backing_file": False, "has_data_file": False, "is_encrypted": False} | changes
    tables = {"cluster_bits": 16, "l1_entries": 2, "l1_offset": 3 << 16}
    return Header(version=3, virtual_size=512, has_extended_l2=False, **tables, **fields)


def test_images_that_refer_to_others_are_refused(tmp_path: Path) -> None:
    require_self_contained(header())
    for name in ("has_backing_file", "has_data_file", "is_encrypted"):
        with pytest.raises(Invalid):
            require_self_contained(header(**{name: True}))
    write_overlay(tmp_path / "overlay", virtual_size=GIB, backing=Path("/etc/shadow"), backing_format="raw")
    assert read_header(tmp_path / "overlay") == msgspec.structs.replace(header(has_backing_file=True), virtual_size=GIB)


@needs_qemu_img
def test_an_external_data_file_is_seen(tmp_path: Path) -> None:
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/data", tmp_path / "image", "1M")
    assert read_header(tmp_path / "image").has_data_file
    qemu_img("create", "-q", "-f", "qcow2", "-o", "compat=0.10", tmp_path / "old", "1M")
    old = msgspec.structs.replace(header(), version=2, virtual_size=MIB, l1_entries=1)
    assert read_header(tmp_path / "old") == old
    qemu_img("create", "-q", "-f", "qcow2", "-o", "extended_l2=on", tmp_path / "new", "1M")
    assert read_header(tmp_path / "new").has_extended_l2


@pytest.mark.parametrize(
    "content", [b"", b"QFI\xfb", b"x" * 200, struct.pack(">4sI", b"QFI\xfb", 4) + bytes(96), b"QFI\xfb" + b"\xff" * 100]
)
def test_what_is_no_qcow2_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "image").write_bytes(content)
    with pytest.raises(Invalid):
        read_header(tmp_path / "image")

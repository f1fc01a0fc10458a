"""Inspection of image headers, with images of the real qemu-img, and with bytes that no sane program writes."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.base.errors import Invalid, MusterError, TooLarge, Unsupported
from muster.domain.image_formats import HEAD_BYTES, QCOW2_MAGIC, detect, inspect, read_qcow2

LIMIT = 1 << 44
HEADER_BYTES = 104


def look(content: bytes, disk_format: str = "qcow2", limit: int = LIMIT) -> int:
    return inspect(content[:HEAD_BYTES], len(content), disk_format, virtual_size_limit=limit)


def qemu_img(*arguments: str) -> None:
    program = shutil.which("qemu-img")
    assert program, "qemu-img is not installed (apt-get install qemu-utils)"
    subprocess.run([program, *arguments], check=True, capture_output=True, timeout=300)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("qcow2") / "image"
    qemu_img("create", "-q", "-f", "qcow2", str(path), "10G")
    return path.read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        "compat=0.10",
        "compat=1.1",
        "compat=1.1,lazy_refcounts=on",
        "cluster_size=512",
        "cluster_size=2M",
        "extended_l2=on,cluster_size=128k",
        "compression_type=zstd",
        "refcount_bits=64",
        "preallocation=metadata",
    ],
)
@pytest.mark.parametrize("size", [0, 512, 1 << 20, 5 << 30])
def test_what_qemu_img_makes_is_accepted(tmp_path: Path, options: str, size: int):
    if size > 1 << 20 and options in ("cluster_size=512", "preallocation=metadata"):
        size = 64 << 20
    path = tmp_path / "image"
    qemu_img("create", "-q", "-f", "qcow2", "-o", options, str(path), str(size))
    assert look(path.read_bytes()) == size


def test_converted_and_with_a_snapshot(tmp_path: Path):
    raw, plain, packed = (tmp_path / name for name in ("raw", "plain", "packed"))
    raw.write_bytes(bytes(range(256)) * 4096)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", str(raw), str(plain))
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", str(raw), str(packed))
    qemu_img("snapshot", "-c", "one", str(plain))
    for path in (plain, packed):
        assert look(path.read_bytes()) == 1 << 20


def test_what_refers_to_other_files_is_refused(tmp_path: Path):
    base, overlay, data = (str(tmp_path / name) for name in ("base", "overlay", "data"))
    qemu_img("create", "-q", "-f", "qcow2", base, "1G")
    qemu_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", overlay)
    with pytest.raises(Invalid, match="backing file"):
        look(Path(overlay).read_bytes())
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={data},data_file_raw=on", overlay, "1G")
    content = Path(overlay).read_bytes()
    with pytest.raises(Invalid, match="external data file"):
        look(content)
    # Without its feature bit, the name alone is refused too.
    with pytest.raises(Invalid, match="external data file"):
        look(content[:72] + bytes(8) + content[80:])


@pytest.mark.parametrize("disk_format", ["vmdk", "vdi", "vhdx", "qed", "qcow2"])
def test_other_formats_are_seen_behind_raw(tmp_path: Path, disk_format: str):
    path = tmp_path / "image"
    qemu_img("create", "-q", "-f", disk_format, str(path), "4M")
    assert detect(path.read_bytes()[:HEAD_BYTES]) == disk_format
    with pytest.raises(Unsupported):
        look(path.read_bytes(), "raw")


def test_a_dynamic_vhd_and_a_descriptor_are_seen(tmp_path: Path):
    path = tmp_path / "image"
    qemu_img("create", "-q", "-f", "vpc", str(path), "4M")
    assert detect(path.read_bytes()) == "vhd"
    qemu_img("create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", str(path), "4M")
    assert detect(path.read_bytes()) == "vmdk"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"# a comment\n\n  \nVERSION=1\n", "vmdk"),
        (b"# Disk DescriptorFile\r\n", "vmdk"),
        (b"#!/bin/sh\necho version=1\n", "raw"),
        (b"\0" * 100, "raw"),
        (b"", "raw"),
        (b"QFI", "raw"),
    ],
)
def test_texts(text: bytes, found: str):
    assert detect(text) == found


FIELDS = {
    "version 1": (4, ">I", 1),
    "version 4": (4, ">I", 4),
    "backing offset": (8, ">Q", 1),
    "backing name only": (16, ">I", 1),
    "clusters too small": (20, ">I", 8),
    "clusters too large": (20, ">I", 22),
    "cluster bits absurd": (20, ">I", 0xFFFFFFFF),
    "size without tables": (24, ">Q", (1 << 64) - 1),
    "AES": (32, ">I", 1),
    "LUKS": (32, ">I", 2),
    "L1 too small": (36, ">I", 1),
    "L1 absurd": (36, ">I", 0xFFFFFFFF),
    "L1 in the header": (40, ">Q", 0),
    "L1 not at a cluster": (40, ">Q", (3 << 16) + 8),
    "L1 outside": (40, ">Q", 1 << 62),
    "refcounts outside": (48, ">Q", 1 << 40),
    "refcounts in the header": (48, ">Q", 0),
    "no refcounts": (56, ">I", 0),
    "snapshots outside": (60, ">I", 1),
    "snapshots absurd": (60, ">I", 0xFFFFFFFF),
    "corrupt": (72, ">Q", 2),
    "data file": (72, ">Q", 4),
    "unknown feature": (72, ">Q", 1 << 5),
    "unknown compression": (72, ">Q", 1 << 3),
    "refcount order": (96, ">I", 7),
    "header too short": (100, ">I", 96),
    "header not in eights": (100, ">I", 105),
    "header too long": (100, ">I", (1 << 16) + 8),
    "extension too long": (HEADER_BYTES + 12, ">I", 0xFFFFFFF0),
}


@pytest.mark.parametrize("name", FIELDS)
def test_each_bad_field_is_refused(made: bytes, name: str):
    offset, form, value = FIELDS[name]
    content = bytearray(made)
    struct.pack_into(form, content, offset, value)
    if name == "unknown compression":
        content[HEADER_BYTES] = 2
    with pytest.raises(Invalid):
        look(bytes(content))


def test_sizes(made: bytes):
    assert look(made, limit=10 << 30) == 10 << 30
    with pytest.raises(TooLarge):
        look(made, limit=(10 << 30) - 1)
    with pytest.raises(TooLarge):
        look(bytes(1025), "raw", limit=1024)
    for size in (4, 71, 80, 103, 4096, len(made) - 1):
        with pytest.raises(Invalid):
            look(made[:size])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=600), st.sampled_from([b"", QCOW2_MAGIC, QCOW2_MAGIC + b"\0\0\0\3", b"# Disk"]))
def test_random_bytes_never_crash_and_are_no_qcow2(content: bytes, start: bytes):
    with pytest.raises((Invalid, TooLarge, Unsupported)):
        look(start + content)
    try:
        assert look(start + content, "raw") == len(start + content)
        assert not (start + content).startswith(QCOW2_MAGIC)
    except Unsupported:
        assert detect(start + content) != "raw"


@settings(max_examples=600, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 160), st.binary(min_size=1, max_size=8))
        | st.tuples(st.integers(0, 160), st.just(b"\0")),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 1 << 18),
)
def test_mutated_headers_are_accepted_only_when_self_contained(made: bytes, changes, length):
    content = bytearray(made)
    for offset, value in changes:
        content[offset : offset + len(value)] = value
    kept = bytes(content[:length])
    try:
        size = look(kept)
    except MusterError as error:
        assert isinstance(error, Invalid | TooLarge | Unsupported)  # noqa: PT017
        return
    header = read_qcow2(kept)
    assert kept.startswith(QCOW2_MAGIC)
    assert header.backing_file_offset == header.backing_file_bytes == header.encryption == 0
    assert header.incompatible & 0b110 == 0
    assert header.incompatible < 1 << 5
    assert 0 <= size <= LIMIT
    assert header.l1_offset + header.l1_entries * 8 <= len(kept)

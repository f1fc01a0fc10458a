"""qcow2 headers, read and written directly: a linked clone is 200 bytes in a sparse file, not a process per guest.

Source: QEMU's docs/interop/qcow2.txt. Invariants: an overlay written here is what `qemu-img create -b` makes, as far
as QEMU can tell (empty tables, exact refcounts); an image that refers to another file is never taken as self-contained.
"""

import os
import struct
from pathlib import Path

from msgspec import Struct

from muster.base.errors import Invalid
from muster.base.units import GIB

MAGIC = b"QFI\xfb"
_CLUSTER_BITS = 16
CLUSTER_BYTES = 1 << _CLUSTER_BITS
#: Bytes of the disk that one entry of the first table (L1) covers: a cluster of 8-byte entries, a cluster each.
_L1_ENTRY_BYTES = CLUSTER_BYTES // 8 * CLUSTER_BYTES
#: Far above any flavor, and within one refcount block's reach for the clusters written here.
MAX_VIRTUAL_BYTES = 1 << 50
_MAX_NAME_BYTES = 1_023

# Version 3: magic, version, backing offset and size, cluster bits, size, encryption, L1 size and offset, refcount table
# offset and clusters, snapshots and their offset, three feature sets, refcount order, header length.
_V2 = struct.Struct(">4sIQIIQIIQQIIQ")
_V3 = struct.Struct(">QQQII")
_BACKING_FORMAT = 0xE2792ACA
_INCOMPATIBLE_DATA_FILE, _INCOMPATIBLE_EXTENDED_L2 = 1 << 2, 1 << 4


class Header(Struct, frozen=True, kw_only=True):
    """What decides whether an image can be used, and where its first table (L1) is. Sizes in bytes."""

    version: int
    virtual_size: int
    has_backing_file: bool
    has_data_file: bool
    is_encrypted: bool
    has_extended_l2: bool
    cluster_bits: int
    l1_entries: int
    l1_offset: int


def read_header(path: Path) -> Header:
    """The header of a qcow2 image. Raises Invalid when it is none. One read of a sector."""
    with path.open("rb") as image:
        start = image.read(_V2.size + _V3.size)
    if len(start) < _V2.size or start[:4] != MAGIC:
        raise Invalid("the image is not in qcow2 format")
    _, version, backing, _, bits, size, encryption, l1_entries, l1_offset, *_ = _V2.unpack_from(start)
    if version not in (2, 3) or not 9 <= bits <= 21 or (version == 3 and len(start) < _V2.size + _V3.size):
        raise Invalid("the image's qcow2 header makes no sense")
    incompatible = _V3.unpack_from(start, _V2.size)[0] if version == 3 else 0
    return Header(
        version=version,
        virtual_size=size,
        has_backing_file=backing != 0,
        has_data_file=bool(incompatible & _INCOMPATIBLE_DATA_FILE),
        is_encrypted=encryption != 0,
        has_extended_l2=bool(incompatible & _INCOMPATIBLE_EXTENDED_L2),
        cluster_bits=bits,
        l1_entries=l1_entries,
        l1_offset=l1_offset,
    )


def require_self_contained(header: Header) -> None:
    """An image from a user must not make QEMU open another file of the host (CVE-2024-32498). Raises Invalid."""
    if header.has_backing_file:
        raise Invalid("the image has a backing file, which is not allowed")
    if header.has_data_file:
        raise Invalid("the image has an external data file, which is not allowed")
    if header.is_encrypted:
        raise Invalid("the image is encrypted, which is not supported")


def write_overlay(path: Path, *, virtual_size: int, backing: Path, backing_format: str) -> None:
    """Make a new linked clone at `path`: an empty qcow2 image over `backing`, durable when this returns.

    `virtual_size` is in bytes and rounded up to sectors. Raises Invalid (size or name that qcow2 does not hold),
    OSError. Five writes of a few bytes and one fsync.
    """
    name = os.fsencode(backing)
    # QEMU would take a name with a colon before its first slash for a protocol's.
    if len(name) > _MAX_NAME_BYTES or not name.startswith(b"/"):
        raise Invalid("the backing file's path must be absolute and at most 1,023 bytes long")
    _write(path, virtual_size, _Backing(name, backing_format.encode()))


def write_empty(path: Path, *, virtual_size: int) -> None:
    """Make a new image at `path` on which nothing is written yet; as `write_overlay`, without another file."""
    _write(path, virtual_size, None)


class _Backing(Struct, frozen=True):
    name: bytes
    format: bytes


def _write(path: Path, virtual_size: int, backing: _Backing | None) -> None:
    size = -(-virtual_size // 512) * 512
    if not 0 < size <= MAX_VIRTUAL_BYTES:
        raise Invalid(f"a disk of {virtual_size / GIB:.0f} GiB is not possible")
    l1_entries = -(-size // _L1_ENTRY_BYTES)
    # Header, refcount table, refcount block, L1 table: a cluster each, the last as many as it needs.
    clusters = 3 + -(-l1_entries * 8 // CLUSTER_BYTES)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(file, clusters * CLUSTER_BYTES)
        os.pwrite(file, _header(size, l1_entries, backing), 0)
        os.pwrite(file, struct.pack(">Q", 2 * CLUSTER_BYTES), CLUSTER_BYTES)
        os.pwrite(file, struct.pack(">H", 1) * clusters, 2 * CLUSTER_BYTES)
        os.fsync(file)
    finally:
        os.close(file)


def _header(size: int, l1_entries: int, backing: _Backing | None) -> bytes:
    length = _V2.size + _V3.size
    extensions, place = bytes(8), (0, 0)
    if backing is not None:
        padded = backing.format.ljust(-(-len(backing.format) // 8) * 8, b"\0")
        extensions = struct.pack(">II", _BACKING_FORMAT, len(backing.format)) + padded + bytes(8)
        place = (length + len(extensions), len(backing.name))
    offsets = (3 * CLUSTER_BYTES, CLUSTER_BYTES)
    fixed = _V2.pack(MAGIC, 3, *place, _CLUSTER_BITS, size, 0, l1_entries, *offsets, 1, 0, 0)
    # No features; refcounts of 1 << 4 bits.
    return fixed + _V3.pack(0, 0, 0, 4, length) + extensions + (backing.name if backing else b"")

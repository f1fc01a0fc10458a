"""What a disk image's first bytes say it is, and whether it may be handed to an emulator.

A file that refers to another file (a backing file, an external data file, a VMDK's extents) would make the host open
whatever the uploader names: CVE-2022-47951, CVE-2024-32498. A file that is taken for another format than the one it was
checked as escapes the check: CVE-2024-44082. Invariant: what passes `inspect` refers to no other file, and read as the
stated format it is what was checked. Sources: QEMU's docs/interop/qcow2.rst and the probe functions of its drivers.
"""

import struct
from collections.abc import Iterator

from msgspec import Struct
from msgspec.structs import replace

from muster.base.errors import Invalid, TooLarge, Unsupported

#: How much of a file `inspect` wants to see; less only of a file that is shorter.
HEAD_BYTES = 65_536

QCOW2_MAGIC = b"QFI\xfb"
_QCOW2 = struct.Struct(">4sIQIIQIIQQIIQ")
_QCOW2_V3 = struct.Struct(">QQQII")
_KNOWN_FEATURES = 0b11111  # dirty, corrupt, external data file, compression type, extended L2 entries
_CORRUPT, _DATA_FILE, _COMPRESSION_TYPE = 1 << 1, 1 << 2, 1 << 3
_END_OF_EXTENSIONS, _DATA_FILE_NAME, _ENCRYPTION_HEADER = 0, 0x44415441, 0x0537BE77
_MAX_L1_BYTES = 32 << 20
_MAX_SNAPSHOTS = 65_536

# What begins a file of each format; QEMU would recognise any of these if it were left to guess.
_MAGICS: tuple[tuple[bytes, str], ...] = (
    (QCOW2_MAGIC, "qcow2"),
    (b"QED\0", "qed"),
    (b"KDMV", "vmdk"),
    (b"COWD", "vmdk"),
    (b"conectix", "vhd"),
    (b"vhdxfile", "vhdx"),
    (b"LUKS\xba\xbe", "luks"),
    (b"WithoutFreeSpace", "parallels"),
    (b"WithouFreSpacExt", "parallels"),
    (b"Bochs Virtual HD Image\0", "bochs"),
    (b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", "cloop"),
    (b"OOOM", "cow"),
)
_VDI_MAGIC = (0x40, b"\x7f\x10\xda\xbe")


class Header(Struct, frozen=True, kw_only=True):
    """The fields of a qcow2 header that decide whether it is taken."""

    version: int
    backing_file_offset: int
    backing_file_bytes: int
    cluster_bits: int
    virtual_size: int
    encryption: int
    l1_entries: int
    l1_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    n_snapshots: int
    snapshots_offset: int
    incompatible: int = 0
    refcount_order: int = 4
    length: int = _QCOW2.size


def detect(head: bytes) -> str:
    """The format that a file's first bytes show, `raw` if none (a partition table or an ISO 9660 file is raw)."""
    for magic, name in _MAGICS:
        if head.startswith(magic):
            return name
    offset, magic = _VDI_MAGIC
    if head[offset : offset + len(magic)] == magic:
        return "vdi"
    return "vmdk" if _is_vmdk_descriptor(head) else "raw"


def check_head(head: bytes, disk_format: str) -> None:
    """Raises Unsupported when the file is not of the format that it is said to be. May be asked early."""
    found = detect(head)
    if found != disk_format:
        raise Unsupported(
            f"Image content does not match disk_format: it is declared as '{disk_format}' but its content is '{found}'",
            code="image.format_mismatch",
        )


def inspect(head: bytes, size: int, disk_format: str, *, virtual_size_limit: int) -> int:
    """The size in bytes of the disk that a file of `size` bytes holds.

    `head` is its first HEAD_BYTES. Raises Unsupported (another format), Invalid (unsafe or damaged), TooLarge.
    """
    check_head(head, disk_format)
    virtual_size = _qcow2_size(head, size) if disk_format == "qcow2" else size
    if virtual_size > virtual_size_limit:
        raise TooLarge(f"The image's virtual size of {virtual_size} bytes is above the limit of {virtual_size_limit}")
    return virtual_size


def read_qcow2(head: bytes) -> Header:
    """The header of a qcow2 file. Raises Invalid when it is cut short or of an unknown version."""
    if len(head) < _QCOW2.size:
        raise _unsafe("the header is cut short")
    (
        _,
        version,
        backing_offset,
        backing_bytes,
        bits,
        virtual_size,
        encryption,
        l1,
        l1_at,
        table_at,
        table,
        snapshots,
        snapshots_at,
    ) = _QCOW2.unpack_from(head)
    if version not in (2, 3):
        raise _unsafe(f"version {version} is not supported")
    header = Header(
        version=version,
        backing_file_offset=backing_offset,
        backing_file_bytes=backing_bytes,
        cluster_bits=bits,
        virtual_size=virtual_size,
        encryption=encryption,
        l1_entries=l1,
        l1_offset=l1_at,
        refcount_table_offset=table_at,
        refcount_table_clusters=table,
        n_snapshots=snapshots,
        snapshots_offset=snapshots_at,
    )
    return header if version == 2 else _with_version_3(header, head)


def _with_version_3(header: Header, head: bytes) -> Header:
    if len(head) < _QCOW2.size + _QCOW2_V3.size:
        raise _unsafe("the header is cut short")
    incompatible, _, _, order, length = _QCOW2_V3.unpack_from(head, _QCOW2.size)
    return replace(header, incompatible=incompatible, refcount_order=order, length=length)


def _qcow2_size(head: bytes, size: int) -> int:
    header = read_qcow2(head)
    _check_self_contained(header)
    _check_layout(header, size)
    _check_extensions(header, head)
    return header.virtual_size


def _check_self_contained(header: Header) -> None:
    if header.backing_file_offset or header.backing_file_bytes:
        raise _unsafe("it has a backing file")
    if header.incompatible & _DATA_FILE:
        raise _unsafe("it has an external data file")
    if header.encryption:
        raise _unsafe("it is encrypted")
    if header.incompatible & _CORRUPT:
        raise _unsafe("it is marked as corrupt")
    if header.incompatible & ~_KNOWN_FEATURES:
        raise _unsafe("it needs features that are not known")


def _check_layout(header: Header, size: int) -> None:
    """The tables lie where QEMU would accept them, inside the file."""
    if not 9 <= header.cluster_bits <= 21:
        raise _unsafe("its cluster size is out of range")
    cluster = 1 << header.cluster_bits
    version_3 = _QCOW2.size + _QCOW2_V3.size
    if header.version == 3 and not (version_3 <= header.length <= cluster and header.length % 8 == 0):
        raise _unsafe("its header length makes no sense")
    if header.refcount_order > 6 or header.n_snapshots > _MAX_SNAPSHOTS:
        raise _unsafe("its header makes no sense")
    # An L1 entry covers one cluster full of 8-byte L2 entries (16 bytes with subclusters).
    entry_bytes = 16 if header.incompatible & 1 << 4 else 8
    covered = header.l1_entries * (cluster // entry_bytes) * cluster
    if header.l1_entries * 8 > _MAX_L1_BYTES or covered < header.virtual_size:
        raise _unsafe("its L1 table does not fit its size")
    tables = [
        (header.l1_offset, header.l1_entries * 8),
        (header.refcount_table_offset, header.refcount_table_clusters * cluster),
    ]
    if header.n_snapshots:
        tables.append((header.snapshots_offset, 1))
    if header.refcount_table_clusters == 0 or any(_outside(start, n, cluster, size) for start, n in tables):
        raise _unsafe("it is cut short or its tables lie outside of it")


def _outside(start: int, n_bytes: int, cluster: int, size: int) -> bool:
    return n_bytes > 0 and (start < cluster or start % cluster != 0 or start + n_bytes > size)


def _check_extensions(header: Header, head: bytes) -> None:
    if header.incompatible & _COMPRESSION_TYPE:
        has_type = header.length > _QCOW2.size + _QCOW2_V3.size and len(head) > header.length
        if not has_type or head[_QCOW2.size + _QCOW2_V3.size] > 1:
            raise _unsafe("its compression type is not known")
    for kind in _extensions(head, header.length, 1 << header.cluster_bits):
        if kind == _DATA_FILE_NAME:
            raise _unsafe("it names an external data file")
        if kind == _ENCRYPTION_HEADER:
            raise _unsafe("it is encrypted")


def _extensions(head: bytes, start: int, cluster: int) -> Iterator[int]:
    end = min(len(head), cluster)
    while start + 8 <= end:
        kind, n_bytes = struct.unpack_from(">II", head, start)
        if kind == _END_OF_EXTENSIONS:
            return
        yield kind
        start += 8 + -(-n_bytes // 8) * 8
    # An area that fills the cluster to its last byte ends without a mark.
    if start != cluster:
        raise _unsafe("its header extensions make no sense")


def _is_vmdk_descriptor(head: bytes) -> bool:
    """Whether QEMU would read the text as a VMDK descriptor: comments and blank lines, then its version."""
    for line in head.split(b"\n")[:1_000]:
        text = line.strip(b" \t\r\0").lower()
        if text.startswith(b"# disk descriptorfile"):
            return True
        if text and not text.startswith(b"#"):
            return text.startswith((b"version=", b"createtype=", b"encoding=", b"cid="))
    return False


def _unsafe(reason: str) -> Invalid:
    return Invalid(f"The image is not accepted as qcow2: {reason}", code="image.unsafe")

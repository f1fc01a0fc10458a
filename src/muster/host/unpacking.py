"""Compressed images, unpacked once per host instead of by each guest, at each read.

QEMU unpacks a whole cluster for whatever is read of it and keeps none of it, and a guest that boots reads in small
pieces: half of what an emulated guest computes before its kernel begins was that. Nova unpacks images as well.
Invariants: what cannot or should not be unpacked is used as it is; no image takes more of the disk than a bounded
multiple of its own size, and than half of what is free.
"""

import asyncio
import contextlib
import os
import struct
from collections import Counter
from pathlib import Path

from msgspec import Struct

from muster.base.errors import Invalid
from muster.base.log import get_logger
from muster.host.qcow2 import CLUSTER_BYTES, read_header

_ENTRY = struct.Struct(">Q")
_COMPRESSED = 1 << 62
_OFFSET = (1 << 56) - (1 << 9)
#: QEMU's own limit.
_L1_MAX_BYTES = 32 << 20
#: Images of systems unpack to two to four times their size. One that claims more may be meant to fill the disk.
_RATIO_MAX = 10
_SHARE_OF_FREE = 0.5
_LIMIT_S = 1_800.0

log = get_logger(__name__)


class Contents(Struct, frozen=True):
    """What a qcow2 image holds: how many of its clusters are compressed, and bytes of all of them unpacked."""

    n_compressed: int
    unpacked_bytes: int


def contents(path: Path) -> Contents:
    """What is in the tables of a qcow2 image. Raises Invalid when it is none. Reads its tables, each once."""
    header = read_header(path)
    cluster_bytes = 1 << header.cluster_bits
    n_compressed = n_data = 0
    with path.open("rb") as image:
        image.seek(header.l1_offset)
        size = header.l1_entries * _ENTRY.size
        if size > _L1_MAX_BYTES:
            raise Invalid("the image's first table is too large")
        first = image.read(size)
        # One that is named again and again is read once, and unpacked each time.
        tables = Counter(entry & _OFFSET for entry in _entries(first))
        del tables[0]
        if len(tables) * cluster_bytes > path.stat().st_size:
            raise Invalid("the image's tables overlap")  # some million of them would be read for days
        for offset, times in sorted(tables.items()):
            image.seek(offset)
            # With extended entries, every other word is a bitmap.
            entries = _entries(image.read(cluster_bytes))[:: 2 if header.has_extended_l2 else 1]
            n_data += times * (len(entries) - entries.count(0))
            n_compressed += times * sum(1 for entry in entries if entry & _COMPRESSED)
    return Contents(n_compressed, n_data * cluster_bytes)


def _entries(table: bytes) -> tuple[int, ...]:
    whole = len(table) // _ENTRY.size
    return struct.unpack(f">{whole}Q", table[: whole * _ENTRY.size])


async def unpack(packed: Path, target: Path) -> bool:
    """Write a verified qcow2 image unpacked to `target`; False, with nothing at `target`, when it stays as it is.

    Raises Invalid when it is no qcow2 image. Cost: nothing but a look at its tables for an image without compressed
    clusters; otherwise one run of qemu-img.
    """
    if not await asyncio.to_thread(_pays, packed, target.parent):
        return False
    said: str | None = "cancelled"
    try:
        said = await _convert(packed, target)
    finally:
        if said is not None:
            await asyncio.to_thread(target.unlink, missing_ok=True)
    if said is not None:
        log.warning("an image stays compressed", action="image_unpack.failed", error=said)
    return said is None


def _pays(packed: Path, directory: Path) -> bool:
    """Whether there is something to unpack, and room for it."""
    found = contents(packed)
    if not found.n_compressed:
        return False
    size, disk = packed.stat().st_size, os.statvfs(directory)
    free = disk.f_bavail * disk.f_frsize
    fits = found.unpacked_bytes <= min(_RATIO_MAX * size, _SHARE_OF_FREE * free)
    sizes = {"size_bytes": size, "unpacked_bytes": found.unpacked_bytes, "free_bytes": free}
    if fits:
        log.info("unpacking an image", action="image_unpack", **sizes)
    else:
        log.warning("an image stays compressed", action="image_unpack.too_large", **sizes)
    return fits


async def _convert(packed: Path, target: Path) -> str | None:
    """None, or what was wrong."""
    options = f"compat=1.1,cluster_size={CLUSTER_BYTES}"
    try:
        process = await asyncio.create_subprocess_exec(
            *("qemu-img", "convert", "-q", "-f", "qcow2", "-O", "qcow2", "-o", options),
            *map(os.path.abspath, (packed, target)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return f"qemu-img (Debian: qemu-utils) cannot be run: {error.strerror}"
    try:
        async with asyncio.timeout(_LIMIT_S):
            _, said = await process.communicate()
    except TimeoutError:
        return f"qemu-img took longer than {_LIMIT_S:g} s"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return said.decode(errors="replace").strip() or "qemu-img failed" if process.returncode else None

"""As much of ELF as the build needs: the sections of a 64-bit little-endian file (System V ABI, chapter 4).

Used to learn which libraries a program needs and what a kernel module says about itself, without running either.
"""

import struct
from collections.abc import Iterator

from muster.base.errors import Invalid

_HEADER_MAGIC = b"\x7fELF\x02\x01"
_NEEDED = 1


def sections(data: bytes) -> dict[str, bytes]:
    """Name -> content of each section that has content. Raises Invalid for anything but 64-bit little-endian ELF."""
    if data[:6] != _HEADER_MAGIC:
        raise Invalid("not a 64-bit little-endian ELF file", code="guest.not_elf")
    try:
        return _sections(data)
    except (struct.error, IndexError) as error:
        raise Invalid("damaged ELF file", code="guest.not_elf") from error


def _sections(data: bytes) -> dict[str, bytes]:
    (offset,) = struct.unpack_from("<Q", data, 0x28)
    size, count, names_index = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, offset + size * i) for i in range(count)]
    names = _content(data, headers[names_index])
    no_content = 8  # SHT_NOBITS
    return {_text(names, h[0]): _content(data, h) for h in headers if h[1] not in (0, no_content)}


def _content(data: bytes, header: tuple[int, ...]) -> bytes:
    return data[header[4] : header[4] + header[5]]


def _text(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode()


def needed(data: bytes) -> list[str]:
    """Sonames of the libraries that a program or library loads (DT_NEEDED), in order."""
    found = sections(data)
    strings = found.get(".dynstr", b"")
    return [_text(strings, value) for tag, value in _dynamic(found.get(".dynamic", b"")) if tag == _NEEDED]


def _dynamic(table: bytes) -> Iterator[tuple[int, int]]:
    usable = len(table) - len(table) % 16
    yield from struct.iter_unpack("<qQ", table[:usable])


def interpreter(data: bytes) -> str | None:
    """Path of the program's dynamic loader, None for a static program."""
    content = sections(data).get(".interp")
    return content.rstrip(b"\0").decode() if content else None

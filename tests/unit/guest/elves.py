"""The smallest ELF files that the build can read, made by hand."""

import struct


def elf(sections: dict[str, bytes]) -> bytes:
    """A 64-bit little-endian ELF file with the given sections."""
    contents = {"": b"", **sections}
    names = b"".join(name.encode() + b"\0" for name in contents) + b".shstrtab\0"
    contents[".shstrtab"] = names
    body, headers, offset_of_name = b"", b"", 0
    for name, content in contents.items():
        kind = 0 if name == "" else 1
        headers += struct.pack("<IIQQQQIIQQ", offset_of_name, kind, 0, 0, 64 + len(body), len(content), 0, 0, 0, 0)
        offset_of_name += len(name) + 1
        body += content
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack("<HHIQQQI", 3, 62, 1, 0, 0, 64 + len(body), 0)
    header += struct.pack("<HHHHHH", 64, 0, 0, 64, len(contents), len(contents) - 1)
    return header + body + headers


def program(*needed: str, loader: str = "") -> bytes:
    """A program or library that needs the given libraries."""
    strings, dynamic = b"\0", b""
    for name in needed:
        dynamic += struct.pack("<qQ", 1, len(strings))
        strings += name.encode() + b"\0"
    sections = {".dynstr": strings, ".dynamic": dynamic + struct.pack("<qQ", 0, 0)}
    return elf(sections | ({".interp": loader.encode() + b"\0"} if loader else {}))


def kernel_module(depends: str = "", *aliases: str) -> bytes:
    """A kernel module that says what it depends on and by which aliases it is found."""
    said = [f"depends={depends}", *(f"alias={alias}" for alias in aliases), "license=GPL"]
    return elf({".modinfo": "\0".join(said).encode() + b"\0"})

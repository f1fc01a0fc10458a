"""A tree of files as a value: the root file system and the initramfs before they are written, and cpio.

Invariant: the same tree gives the same bytes. Owner is always root, the time is always `TIMESTAMP`, order is by path.
"""

import gzip
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import PurePosixPath

from msgspec import Struct

#: Time of every file in the image, Unix seconds (2020-01-01): a real one would make each build different.
TIMESTAMP = 1577836800


class Kind(Enum):
    """Kinds of node, with the file type bits of stat(2)."""

    DIRECTORY = 0o040000
    FILE = 0o100000
    LINK = 0o120000


class Node(Struct, frozen=True):
    """A directory, a file with its content, or a symbolic link with its target; `mode` is the permission bits."""

    kind: Kind
    mode: int
    data: bytes = b""


Tree = dict[str, Node]
"""Path without leading slash -> node."""


def directory(mode: int = 0o755) -> Node:
    """A directory."""
    return Node(Kind.DIRECTORY, mode)


def file(data: bytes, mode: int = 0o644) -> Node:
    """A regular file."""
    return Node(Kind.FILE, mode, data)


def link(target: str) -> Node:
    """A symbolic link."""
    return Node(Kind.LINK, 0o777, target.encode())


def with_parents(tree: Mapping[str, Node]) -> Tree:
    """The tree with every parent directory that it lacks, ordered so that a directory stands before its content."""
    full = dict(tree)
    for path in tree:
        for parent in PurePosixPath(path).parents:
            if str(parent) != ".":
                full.setdefault(str(parent), directory())
    return dict(sorted(full.items(), key=lambda item: item[0].split("/")))


def cpio(tree: Mapping[str, Node]) -> bytes:
    """The tree as an uncompressed initramfs (cpio `newc`; Linux, early-userspace/buffer-format.rst)."""
    entries = [*with_parents(tree).items(), ("TRAILER!!!", Node(Kind.FILE, 0))]
    return b"".join(part for inode, (path, node) in enumerate(entries, 1) for part in _cpio_entry(inode, path, node))


def _cpio_entry(inode: int, path: str, node: Node) -> Iterator[bytes]:
    name = path.encode() + b"\0"
    mode = 0 if path == "TRAILER!!!" else node.kind.value | node.mode
    fields = (inode, mode, 0, 0, 1, TIMESTAMP, len(node.data), 0, 0, 0, 0, len(name), 0)
    yield _padded(b"070701" + b"".join(b"%08X" % field for field in fields) + name)
    yield _padded(node.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def initramfs(tree: Mapping[str, Node]) -> bytes:
    """The tree as a gzip-compressed initramfs."""
    return gzip.compress(cpio(tree), 9, mtime=0)

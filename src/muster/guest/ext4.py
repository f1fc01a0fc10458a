"""An ext4 file system made from a tree, without mounting it and without root.

mke2fs makes it empty and debugfs fills it, because mke2fs's own `-d` copies change times and owners of the building
machine. Invariant: the same tree gives the same bytes, and e2fsck finds nothing to say about them.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from msgspec import Struct

from muster.base.errors import Bug, Invalid
from muster.base.units import KIB
from muster.guest import tools
from muster.guest.tree import TIMESTAMP, Kind, Node, with_parents

#: Named one by one, so that the builder's mke2fs.conf has no say; all are known to GRUB and to old kernels.
_FEATURES = "none,has_journal,ext_attr,dir_index,filetype,extent,sparse_super,large_file,extra_isize"
#: A fixed identity: images made from the same input are the same. It does not tell guests apart.
_UUID = "4d757374-6572-4775-8573-74526f6f7400"
_JOURNAL_MIB = 4


class Partition(Struct, frozen=True):
    """Where the file system lies in the raw disk, in bytes."""

    offset_bytes: int
    size_bytes: int
    label: str


def make(disk: Path, partition: Partition, tree: Mapping[str, Node], work: Path) -> None:
    """Write the file system with the tree's content into the raw file `disk`.

    `work` is an empty directory for the files on their way. Raises Invalid for a path that debugfs could not take
    literally, Bug when a tool fails. Three processes.
    """
    environment = {"E2FSPROGS_FAKE_TIME": str(TIMESTAMP), "MKE2FS_SYNC": "0", "MKE2FS_CONFIG": "/dev/null"}
    extended = f"offset={partition.offset_bytes},root_owner=0:0,hash_seed={_UUID},lazy_itable_init=0,nodiscard"
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0", "-O", _FEATURES]
    identity = ["-U", _UUID, "-L", partition.label, "-J", f"size={_JOURNAL_MIB}", "-E", extended]
    size = f"{partition.size_bytes // KIB}k"
    tools.run([*command, *identity, str(disk), size], env=environment)
    script = work / "commands"
    script.write_text("\n".join(commands(with_parents(tree), work)) + "\n")
    place = f"{disk}?offset={partition.offset_bytes}"
    said = tools.run(["debugfs", "-w", "-f", str(script), place], env=environment)
    _raise_complaints(said.stderr)
    tools.run(["e2fsck", "-fn", place], env=environment)


def commands(tree: Mapping[str, Node], work: Path) -> Iterator[str]:
    """The debugfs commands that create the tree; contents are put into `work`, one file each."""
    for number, (path, node) in enumerate(tree.items()):
        _check(path)
        parent, name = PurePosixPath("/", path).parent, PurePosixPath(path).name
        yield f'cd "{parent}"'
        if node.kind is Kind.DIRECTORY:
            yield f'mkdir "{name}"'
        elif node.kind is Kind.LINK:
            _check(node.data.decode())
            yield f'symlink "{name}" "{node.data.decode()}"'
        else:
            content = work / f"{number}"
            content.write_bytes(node.data)
            yield f'write "{content}" "{name}"'
        if node.kind is not Kind.LINK:
            yield f'set_inode_field "{name}" mode 0{node.kind.value | node.mode:o}'


def _check(text: str) -> None:
    if '"' in text or "\n" in text or not text.isascii() or not text:
        raise Invalid(f"no name for a file of the guest: {text!r}", code="guest.bad_name")


def _raise_complaints(stderr: str) -> None:
    # debugfs goes on after an error and ends with status 0; only its first line, the version, is no complaint.
    complaints = [line for line in stderr.splitlines() if line and not line.startswith("debugfs 1.")]
    if complaints:
        raise Bug(f"debugfs: {' / '.join(complaints[:5])}", code="guest.tool_failed")

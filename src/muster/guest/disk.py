"""The bootable disk: master boot record, GRUB in the gap before the first partition, one ext4 partition, as qcow2.

GRUB is put there the way its own image says it may be loaded: boot.img reads one sector from sector 1, and grub-mkimage
writes a core whose first sector expects the rest behind it. So no installer has to see a device or a mounted partition.
"""

import struct
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from muster.base.errors import Bug
from muster.base.units import KIB, MIB
from muster.guest import ext4, tools
from muster.guest.payload import LABEL, Payload, libraries_for, static_file
from muster.guest.tree import Node

SECTOR_BYTES = 512
#: The customary start of the first partition; what lies before it is GRUB's.
PARTITION_OFFSET_BYTES = MIB
#: Room for the guest's own files; empty room costs nothing in a qcow2 file.
VIRTUAL_SIZE_BYTES = 128 * MIB
#: linux16 starts the kernel at its 16-bit entry, as QEMU's own loader does. Through GRUB's usual command, the 32-bit
#: entry, the same kernel unpacks itself 1.7 CPU seconds slower under emulation.
_GRUB_MODULES = ["biosdisk", "part_msdos", "ext2", "linux16"]
_LINUX = 0x83
_ACTIVE = 0x80
#: Disk signature; fixed, so that equal input gives an equal image.
_SIGNATURE = 0x4D757374
#: Where boot code must end in the first sector; the rest is signature and partition table.
_BOOT_CODE_BYTES = 440


def master_boot_record(boot_code: bytes, offset_bytes: int, size_bytes: int) -> bytes:
    """The first sector: boot code, disk signature, one active Linux partition.

    What GRUB's boot.img has from byte 440 on is for floppy disks, which have no partition table.
    """
    # CHS addresses are given as 'beyond', so that only the sector numbers (LBA) count.
    start, count = offset_bytes // SECTOR_BYTES, size_bytes // SECTOR_BYTES
    entry = struct.pack("<B3sB3sII", _ACTIVE, b"\xfe\xff\xff", _LINUX, b"\xfe\xff\xff", start, count)
    table = struct.pack("<IH", _SIGNATURE, 0) + entry + bytes(3 * len(entry))
    return boot_code[:_BOOT_CODE_BYTES].ljust(_BOOT_CODE_BYTES, b"\0") + table + b"\x55\xaa"


def boot_area(first_sector: bytes, core: bytes) -> bytes:
    """What lies before the first partition. Raises Bug if GRUB's core does not fit."""
    area = first_sector + core
    if len(area) > PARTITION_OFFSET_BYTES:
        raise Bug(f"GRUB's core is too large: {len(core)} bytes", code="guest.boot_code")
    return area


def grub_core(payload: Payload, work: Path) -> bytes:
    """GRUB's core image with the drivers and the commands that start the kernel. One process.

    grub-mkimage runs from the unpacked package with the libraries unpacked beside it, so the machine needs no GRUB.
    """
    programs = {path: node for path, node in payload.grub.items() if path.endswith("grub-mkimage")}
    libraries = libraries_for(programs, payload.libraries)
    for path, node in {**payload.grub, **libraries}.items():
        place = work / PurePosixPath(path).name
        place.write_bytes(node.data)
        place.chmod(0o755)
    config = work / "core.cfg"
    config.write_bytes(static_file("grub.cfg").replace(b"@LABEL@", LABEL.encode()))
    loader = [str(work / "ld-linux-x86-64.so.2"), "--library-path", str(work), str(work / "grub-mkimage")]
    # No drive in the prefix: GRUB takes the one that the BIOS started it from.
    options = ["-O", "i386-pc", "-d", str(work), "-p", "(,msdos1)/boot/grub", "-c", str(config)]
    tools.run([*loader, *options, "-o", str(work / "core.img"), *_GRUB_MODULES])
    return (work / "core.img").read_bytes()


def make(output: Path, payload: Payload, tree: Mapping[str, Node], work: Path) -> None:
    """Write the disk with the tree as its root file system to `output`, as compressed qcow2. Five processes."""
    for name in ("grub", "files"):
        (work / name).mkdir()
    core = grub_core(payload, work / "grub")
    boot_code = (work / "grub" / "boot.img").read_bytes()
    # Partition of whole 4 KiB blocks up to the end of the disk.
    partition = ext4.Partition(PARTITION_OFFSET_BYTES, VIRTUAL_SIZE_BYTES - PARTITION_OFFSET_BYTES, LABEL)
    raw = work / "disk.raw"
    with raw.open("wb") as disk:
        disk.truncate(VIRTUAL_SIZE_BYTES)
        disk.write(boot_area(master_boot_record(boot_code, partition.offset_bytes, partition.size_bytes), core))
    ext4.make(raw, partition, tree, work / "files")
    # 64 KiB clusters are qcow2's default, named because they decide the bytes.
    options = f"cluster_size={64 * KIB},compat=1.1"
    tools.run(["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", "-c", "-o", options, str(raw), str(output)])

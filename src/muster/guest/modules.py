"""Kernel modules: what each says about itself, what it needs, and the tables by which modprobe finds it.

A Debian kernel package carries no modules.dep (depmod makes it at installation), so it is made here, for the few
modules of the guest. Invariant: the chosen set is closed, each module's dependencies are in it.
"""

import lzma
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from msgspec import Struct

from muster.base.errors import NotFound
from muster.guest import elf

#: What the guest can use. Names that a kernel has built in, or lacks, are skipped.
BOOT_MODULES = (
    *("virtio_pci", "virtio_blk"),
    *("virtio_scsi", "sd_mod", "ata_piix", "ahci", "nvme"),
)
GUEST_MODULES = (
    *BOOT_MODULES,
    *("virtio_net", "virtio_rng", "virtio_balloon", "virtio_console"),
    *("sr_mod", "isofs", "vfat", "nls_ascii", "nls_cp437", "nls_iso8859_1", "nls_utf8"),
    *("button", "evdev"),
)


class Module(Struct, frozen=True):
    """One module: where it lies below /lib/modules/VERSION, what it needs, by which patterns it is asked for."""

    path: str
    data: bytes
    depends: tuple[str, ...]
    aliases: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name as modprobe and the kernel write it."""
        return module_name(self.path)


def module_name(path: str) -> str:
    """`kernel/drivers/char/hw_random/virtio-rng.ko.xz` -> `virtio_rng`."""
    return PurePosixPath(path).name.split(".ko", 1)[0].replace("-", "_")


def parse(path: str, data: bytes) -> Module:
    """Read a module, compressed with xz or not. Raises Invalid when it is no ELF file."""
    if path.endswith(".xz"):
        path, data = path.removesuffix(".xz"), lzma.decompress(data)
    info = [entry.decode().partition("=") for entry in elf.sections(data).get(".modinfo", b"").split(b"\0") if entry]
    depends = [name for key, _, value in info if key == "depends" for name in value.split(",") if name]
    aliases = [value for key, _, value in info if key == "alias"]
    return Module(path, data, tuple(name.replace("-", "_") for name in depends), tuple(aliases))


def select(wanted: Iterable[str], files: Mapping[str, bytes]) -> dict[str, Module]:
    """Name -> module for the wanted modules that exist and all that they need; `files` is path -> content.

    Reads only these of the thousand that a kernel has. Raises NotFound as `closure` does.
    """
    paths = {module_name(path): path for path in files}
    found: dict[str, Module] = {}
    waiting = [name for name in wanted if name in paths]
    while waiting:
        name = waiting.pop()
        if name not in found and name in paths:
            found[name] = parse(paths[name], files[paths[name]])
            waiting.extend(found[name].depends)
    return {module.name: module for module in closure(wanted, found)}


def closure(wanted: Iterable[str], available: Mapping[str, Module]) -> list[Module]:
    """The wanted modules that exist and all that they need, each after its dependencies.

    Raises NotFound when a dependency is not available: the package would be incomplete.
    """
    ordered: dict[str, Module] = {}

    def visit(name: str, asked_by: str) -> None:
        if name in ordered:
            return
        if name not in available:
            raise NotFound(f"kernel module {asked_by} needs {name}, which is missing", code="guest.no_module")
        for dependency in available[name].depends:
            visit(dependency, name)
        ordered[name] = available[name]

    for name in wanted:
        if name in available:
            visit(name, name)
    return list(ordered.values())


def dependency_table(modules: list[Module]) -> str:
    """modules.dep (kmod, modules.dep(5)): all that a module needs, what must be loaded first standing last."""
    by_name = {module.name: module for module in modules}
    lines = []
    for module in modules:
        first_needed_last = [m.path for m in reversed(closure([module.name], by_name)) if m is not module]
        lines.append(f"{module.path}: {' '.join(first_needed_last)}".rstrip() + "\n")
    return "".join(lines)


def alias_table(modules: list[Module]) -> str:
    """modules.alias: the patterns of devices and file systems, and the module that each means."""
    return "".join(f"alias {alias} {module.name}\n" for module in modules for alias in module.aliases)

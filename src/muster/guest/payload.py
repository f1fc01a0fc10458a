"""What the packages bring to the image: programs, kernel and modules, and the trees made from them.

Invariant: everything in the trees comes from the packages given or from this package's `files/`; nothing from the
machine that builds.
"""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path, PurePosixPath

from msgspec import Struct

from muster.base.errors import NotFound
from muster.guest import elf, modules, packages
from muster.guest.tree import Kind, Node, Tree, directory, file, initramfs, link

#: Label of the root file system.
LABEL = "guest-root"
#: Applets of busybox that the initramfs needs.
_INITRAMFS_APPLETS = ("cat", "findfs", "modprobe", "mount", "sed", "sh", "sort", "switch_root", "usleep", "xargs")
#: Applets that belong to /sbin by custom; the kernel calls /sbin/modprobe by this path.
_SBIN_APPLETS = frozenset(("acpid", "halt", "init", "ip", "modprobe", "poweroff", "reboot", "udhcpc", "uevent"))
#: files/ -> place and mode in the root file system.
_PLACES = {
    "inittab": ("etc/inittab", 0o644),
    "functions": ("lib/muster-guest/functions", 0o644),
    "json.awk": ("lib/muster-guest/json.awk", 0o644),
    "boot": ("lib/muster-guest/boot", 0o755),
    "configure": ("lib/muster-guest/configure", 0o755),
    "dhcp": ("lib/muster-guest/dhcp", 0o755),
    "hotplug": ("lib/muster-guest/hotplug", 0o755),
    "shutdown": ("lib/muster-guest/shutdown", 0o755),
    "power-button": ("etc/acpi/PWRF/00000080", 0o755),
}
_TEXTS = {
    "etc/passwd": "root:*:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\ntty:x:5:\n",
    "etc/shells": "/bin/sh\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    "etc/os-release": 'ID=muster-guest\nNAME="Muster test guest"\nPRETTY_NAME="Muster test guest (Debian packages)"\n',
    "etc/profile": "export PATH=/sbin:/bin:/usr/sbin:/usr/bin\n",
}


class Payload(Struct, frozen=True):
    """What was read from the packages."""

    kernel_version: str
    kernel: bytes
    modules: dict[str, modules.Module]
    busybox: bytes
    dropbear: Tree
    grub: Tree
    libraries: Tree


def load(debs: Mapping[str, Path]) -> Payload:
    """Read the packages. Raises NotFound when one lacks what it should have. One process per package."""
    kernel_deb = next(path for name, path in debs.items() if name.startswith("linux-image-"))
    kernel = packages.read(kernel_deb, _is_kernel_file)
    image = _find(kernel, "boot/vmlinuz-")
    files = {path.partition("lib/modules/")[2].partition("/")[2]: n.data for path, n in kernel.items() if ".ko" in path}
    busybox = packages.read(debs["busybox-static"], lambda path: path.endswith("bin/busybox"))
    libraries: Tree = {}
    for name in sorted(name for name in debs if name.startswith(("lib", "zlib"))):
        libraries |= packages.read(debs[name], _is_library)
    return Payload(
        kernel_version=image.removeprefix("boot/vmlinuz-"),
        kernel=kernel[image].data,
        modules=modules.select(modules.GUEST_MODULES, files),
        busybox=busybox[_find(busybox, "")].data,
        dropbear=packages.read(debs["dropbear-bin"], _is_dropbear),
        grub=packages.read(debs["grub-common"], lambda path: path.endswith("bin/grub-mkimage"))
        | packages.read(debs["grub-pc-bin"], lambda path: "/grub/i386-pc/" in path),
        libraries=libraries,
    )


def _is_kernel_file(path: str) -> bool:
    return path.startswith("boot/vmlinuz-") or ".ko" in PurePosixPath(path).name


def _is_library(path: str) -> bool:
    return ".so" in PurePosixPath(path).name


def _is_dropbear(path: str) -> bool:
    return PurePosixPath(path).name in {"dropbear", "dropbearkey"} and "bin" in path


def _find(tree: Tree, prefix: str) -> str:
    for path, node in tree.items():
        if node.kind is Kind.FILE and path.startswith(prefix):
            return path
    raise NotFound(f"a package lacks {prefix or 'its program'}", code="guest.package_content")


def static_file(name: str) -> bytes:
    """Content of one of the files that come with Muster."""
    return resources.files("muster.guest").joinpath("files", name).read_bytes()


def initramfs_tree(payload: Payload) -> Tree:
    """The first root: busybox, and the modules that bring up a disk."""
    applets = {f"bin/{name}": link("busybox") for name in _INITRAMFS_APPLETS}
    boot_modules = modules.closure(modules.BOOT_MODULES, payload.modules)
    mounts = {name: directory() for name in ("dev", "proc", "sys", "newroot")}
    return {
        "init": file(static_file("initramfs-init"), 0o755),
        "bin/busybox": file(payload.busybox, 0o755),
        # The kernel asks /sbin/modprobe when a mount needs a file system or a device a driver.
        "sbin/modprobe": link("../bin/busybox"),
        **applets,
        **mounts,
        **module_tree(payload.kernel_version, boot_modules),
    }


def module_tree(version: str, chosen: list[modules.Module]) -> Tree:
    """The modules and modprobe's tables, as depmod would leave them."""
    base = f"lib/modules/{version}"
    return {
        **{f"{base}/{module.path}": file(module.data) for module in chosen},
        f"{base}/modules.dep": file(modules.dependency_table(chosen).encode()),
        f"{base}/modules.alias": file(modules.alias_table(chosen).encode()),
    }


def root_tree(payload: Payload, applets: list[str]) -> Tree:
    """The root file system; `applets` are the names that busybox answers to."""
    directories = {name: directory() for name in ("dev", "proc", "sys", "run", "mnt", "var/log", "etc/dropbear")}
    return {
        **directories,
        "root": directory(0o700),
        "tmp": directory(0o1777),
        "var/run": link("/run"),
        "bin/busybox": file(payload.busybox, 0o755),
        **{_applet_path(name): link("/bin/busybox") for name in applets if name != "busybox"},
        **{path: file(text.encode()) for path, text in _TEXTS.items()},
        "etc/resolv.conf": link("/run/net/resolv.conf"),
        **{path: file(static_file(name), mode) for name, (path, mode) in _PLACES.items()},
        **{f"usr/{path.removeprefix('usr/')}": node for path, node in payload.dropbear.items()},
        **libraries_for(payload.dropbear, payload.libraries),
        **module_tree(payload.kernel_version, list(payload.modules.values())),
        "boot/vmlinuz": file(payload.kernel),
        "boot/initrd.gz": file(initramfs(initramfs_tree(payload))),
    }


def _applet_path(name: str) -> str:
    return f"{'sbin' if name in _SBIN_APPLETS else 'bin'}/{name}"


def libraries_for(programs: Mapping[str, Node], libraries: Mapping[str, Node]) -> Tree:
    """Loader and libraries that the programs need, and that these need, in one directory each.

    Raises NotFound for one that no package brought.
    """
    # A link may have the name of the file it leads to, in another directory: files win.
    links_first = sorted(libraries, key=lambda path: libraries[path].kind is Kind.FILE)
    by_name = {PurePosixPath(path).name: path for path in links_first}
    chosen: Tree = {}
    waiting = [node.data for node in programs.values()]
    while waiting:
        data = waiting.pop()
        loader = elf.interpreter(data)
        names = {f"lib/x86_64-linux-gnu/{name}": name for name in elf.needed(data)}
        names |= {loader.lstrip("/"): PurePosixPath(loader).name} if loader else {}
        for place, name in names.items():
            if place not in chosen:
                content = _content(name, by_name, libraries)
                chosen[place] = file(content, 0o755)
                waiting.append(content)
    return chosen


def _content(name: str, by_name: Mapping[str, str], libraries: Mapping[str, Node]) -> bytes:
    """The file behind a soname; links lead to a file of the same package directory, or of another for the loader."""
    for _ in range(8):
        node = libraries.get(by_name.get(name, ""))
        if node is None:
            break
        if node.kind is Kind.FILE:
            return node.data
        name = PurePosixPath(node.data.decode()).name
    raise NotFound(f"no package brought the library {name}", code="guest.no_library")

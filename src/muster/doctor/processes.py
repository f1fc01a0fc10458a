"""Which processes matter, and what each was told: also in namespaces of their own, in containers, and as they end.

A process in a container has its own files, seen from outside below `/proc/PID/root`, which only root may enter. That it
is in one is told by its mounts (`/proc/PID/mountinfo`), which everybody may read.
"""

from collections.abc import Callable
from itertools import pairwise

from msgspec.structs import replace

from muster.doctor.facts import Process, Reading
from muster.doctor.texts import interfaces, parent_pid, root_mount, started_s, values
from muster.doctor.tree import Tree

_PROGRAMS = ("dnsmasq", "libvirtd", "muster", "nova-compute", "ovs-vswitchd", "virtqemud")
_EMULATORS = ("qemu-system-", "qemu-kvm")


def read_processes(tree: Tree, files: dict[str, Reading]) -> tuple[Process, ...]:
    """The processes that matter; what they were told to read comes to the files."""
    own_root = root_mount(tree.read("/proc/self/mountinfo").text or "")
    digits = [name for name in tree.named("/proc") if name.isascii() and name.isdigit() and len(name) < 10]
    found = [
        process for pid in sorted(map(int, digits)) if (process := _process(tree, files, pid, own_root)) is not None
    ]
    found = [process for process in found if not _is_helper(tree, process, found)]
    if not all(process.network for process in found):  # for root's eyes; what everybody sees tells them apart as well
        found = [replace(process, network=_interfaces(tree, process.pid)) for process in found]
    return tuple(found)


def _process(tree: Tree, files: dict[str, Reading], pid: int, own_root: str) -> Process | None:
    """None for what does not matter, and for what has ended meanwhile."""
    comm = (tree.read(f"/proc/{pid}/comm").text or "").strip()
    if not comm.startswith((*_PROGRAMS, *_EMULATORS, "neutron-", "python", "pypy")):
        return None
    argv = tuple((tree.read(f"/proc/{pid}/cmdline").text or "").rstrip("\n").split("\n"))
    name = program_of(comm, argv)
    if name is None:
        return None
    root = _root(tree, pid, own_root)
    told = _TOLD[name](tree, argv, root) if name in _TOLD else {}
    process = Process(
        pid=pid,
        name=name,
        argv=argv,
        configuration=tuple(told),
        network=tree.link(f"/proc/{pid}/ns/net"),
        limits=tree.read(f"/proc/{pid}/limits"),
        cgroup=tree.read(f"/proc/{pid}/cgroup"),
        root=root,
        started_s=started_s(tree.read(f"/proc/{pid}/stat").text or "", tree.read("/proc/stat").text or ""),
    )
    if tree.read(f"/proc/{pid}/comm").text is None:
        return None
    files.update(told)
    return process


def program_of(comm: str, argv: tuple[str, ...]) -> str | None:
    """Which of the programs that matter it is; None: none of them, or one that has ended and waits to be reaped."""
    if not any(argv):
        return None
    if comm in _PROGRAMS:
        return comm
    if comm.startswith("neutron-"):
        return "neutron"
    if comm.startswith(_EMULATORS):  # libvirt asks emulators without a machine what they can do
        is_asked = any(option == "-machine" and value.split(",")[0] == "none" for option, value in pairwise(argv))
        return None if is_asked else "qemu"
    return "muster" if ("-m", "muster") in pairwise(argv[:4]) else None


def _root(tree: Tree, pid: int, own_root: str) -> str:
    text = tree.read(f"/proc/{pid}/mountinfo").text
    return f"/proc/{pid}/root" if text and own_root and root_mount(text) != own_root else ""


def _is_helper(tree: Tree, process: Process, others: list[Process]) -> bool:
    """A dnsmasq with a script has a child of the same arguments that runs it, and serves nobody."""
    if process.name != "dnsmasq":
        return False
    parent = parent_pid(tree.read(f"/proc/{process.pid}/status").text or "")
    return any(other.pid == parent and other.argv == process.argv for other in others)


def _interfaces(tree: Tree, pid: int) -> str:
    return interfaces(tree.read(f"/proc/{pid}/net/dev").text or "")


def _configuration_of_libvirt(daemon: str) -> Callable[[Tree, tuple[str, ...], str], dict[str, Reading]]:
    """Its own file and qemu.conf, in that order."""

    def told(tree: Tree, argv: tuple[str, ...], root: str) -> dict[str, Reading]:
        own = (values(argv, "--config", "-f") or [f"/etc/libvirt/{daemon}.conf"])[-1]
        return {root + path: tree.read(root + path) for path in (own, "/etc/libvirt/qemu.conf")}

    return told


def _configuration_of_muster(tree: Tree, argv: tuple[str, ...], root: str) -> dict[str, Reading]:
    return {root + path: tree.read(root + path) for path in values(argv, "--settings")}


def _configuration_of_dnsmasq(tree: Tree, argv: tuple[str, ...], root: str) -> dict[str, Reading]:
    """The files of a dnsmasq, by its arguments and by one another; the usual one when it was told none (dnsmasq(8))."""
    found: dict[str, Reading] = {}
    waiting = values(argv, "--conf-file", "-C") or ["/etc/dnsmasq.conf"]
    waiting += [path for value in values(argv, "--conf-dir", "-7") for path in _files_of(tree, value, root)]
    while waiting:
        path = waiting.pop(0)
        if root + path in found or not path.startswith("/"):
            continue
        found[root + path] = reading = tree.read(root + path)
        for line in (reading.text or "").splitlines():
            name, _, value = (part.strip() for part in line.partition("="))
            waiting += [value] if name == "conf-file" else _files_of(tree, value, root) if name == "conf-dir" else []
    return found


def _files_of(tree: Tree, value: str, root: str) -> list[str]:
    """The files of a folder, which may be followed by the endings that are left out."""
    folder, *without = value.split(",")
    folder = folder.rstrip("/")
    names = tree.names(root + folder)
    if isinstance(names, Reading):
        return [f"{folder}/*"]  # which cannot be read for the same reason
    # Endings with an asterisk are the only ones that count, and are hardly used (dnsmasq(8), --conf-dir).
    left_out = ("~", *(ending for ending in without if not ending.startswith("*")))
    return [f"{folder}/{name}" for name in names if not name.endswith(left_out) and not name.startswith(".")]


_TOLD = {
    "dnsmasq": _configuration_of_dnsmasq,
    "libvirtd": _configuration_of_libvirt("libvirtd"),
    "muster": _configuration_of_muster,
    "virtqemud": _configuration_of_libvirt("virtqemud"),
}

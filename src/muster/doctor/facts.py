"""A host as files and processes, read once, through a root directory: `/`, or a copy of a machine's files.

Invariant: nothing found there raises. What cannot be read is kept with the reason; what is odd is kept as it is.
"""

import os
import stat
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from muster.doctor.texts import Version, dpkg_versions, first_version, kernel_version

_MOST_BYTES = 1 << 20
_MOST_PACKAGES_BYTES = 1 << 26
ABSENT = "absent"
#: Why /dev/kvm does not open in a copy of a machine's files, which says nothing of the machine.
NOT_COPIED = "there is no /dev in this copy"

_KERNELS_TREES = ("/proc/sys", "/proc", "/sys")

_FILES = (
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/modules",
    "/proc/pressure/cpu",
    "/proc/pressure/io",
    "/proc/pressure/memory",
    "/proc/swaps",
    "/proc/version",
    "/proc/version_signature",
    "/proc/self/cgroup",
    "/proc/self/limits",
    "/sys/kernel/mm/ksm/run",
    "/sys/kernel/mm/ksm/pages_to_scan",
    "/sys/kernel/mm/ksm/sleep_millisecs",
    "/sys/kernel/mm/ksm/pages_sharing",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/module/kvm_intel/parameters/nested",
    "/sys/module/kvm_amd/parameters/nested",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource",
    "/sys/devices/system/clocksource/clocksource0/available_clocksource",
    "/run/systemd/timesync/synchronized",
)
_SYSCTLS = (
    "fs.file-max",
    "fs.inotify.max_user_instances",
    "fs.inotify.max_user_watches",
    "fs.nr_open",
    "kernel.hostname",
    "kernel.osrelease",
    "kernel.pid_max",
    "kernel.threads-max",
    "net.bridge.bridge-nf-call-ip6tables",
    "net.bridge.bridge-nf-call-iptables",
    *(f"net.{family}.neigh.default.gc_thresh{n}" for family in ("ipv4", "ipv6") for n in (1, 2, 3)),
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.netfilter.nf_conntrack_count",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_tcp_timeout_established",
    "vm.max_map_count",
    "vm.overcommit_memory",
    "vm.overcommit_ratio",
)
#: OpenStack's services by their folder, with all folders that their settings are in, the last one the strongest.
OPENSTACK_FOLDERS = {
    "/etc/nova": ("/etc/nova", "/etc/nova/nova.conf.d", "/etc/nova/nova-compute.conf.d"),
    "/etc/neutron": (
        "/etc/neutron",
        "/etc/neutron/plugins/ml2",
        "/etc/neutron/neutron.conf.d",
        "/etc/neutron/server.conf.d",
        "/etc/neutron/agent.conf.d",
    ),
    "/etc/cinder": ("/etc/cinder", "/etc/cinder/cinder.conf.d"),
}
#: Folders whose configuration files are read, with the endings that count.
FOLDERS = {
    "/etc/libvirt": (".conf",),
    **{folder: (".conf", ".ini") for folders in OPENSTACK_FOLDERS.values() for folder in folders},
    "/etc/rabbitmq": (".conf",),
    "/etc/rabbitmq/conf.d": (".conf",),
    "/etc/muster": (".toml",),
}
#: Where systemd looks for units, the strongest first (systemd.unit(5)).
UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_PROGRAMS = {
    "qemu": ("qemu-system-x86_64", "/usr/libexec/qemu-kvm"),
    "libvirt": ("virtqemud", "libvirtd"),
    "openvswitch": ("ovs-vswitchd",),
    "dnsmasq": ("dnsmasq",),
}


class Reading(Struct, frozen=True):
    """A file's text, or why there is none."""

    text: str | None
    why: str = ""


class Process(Struct, frozen=True, kw_only=True):
    """A process that matters here. `network` names its network namespace, empty where that cannot be read.

    `configuration`: the files that it was told to read, and those that these name, as far as it is a dnsmasq.
    """

    pid: int
    name: str
    argv: tuple[str, ...]
    network: str
    limits: Reading
    cgroup: Reading
    configuration: tuple[str, ...] = ()


class Facts(Struct, frozen=True, kw_only=True):
    """All that the checks know. `kvm`: why /dev/kvm does not open, empty if it does; an unknown clock is None.

    `unseen`: why processes of others cannot be seen, so that one which is not here may be there; empty if they can.
    """

    files: dict[str, Reading]
    processes: tuple[Process, ...] = ()
    unseen: str = ""
    versions: dict[str, Version] = {}
    units: dict[str, str] = {}
    kvm: str = ABSENT
    clock_synchronised: bool | None = None
    verdict: Reading = Reading(None, ABSENT)
    is_root: bool = True

    def reading(self, path: str) -> Reading:
        """What is known of a file."""
        return self.files.get(path, Reading(None, ABSENT))

    def text(self, path: str) -> str | None:
        """A file's text without blanks at its ends; None if it could not be read."""
        text = self.reading(path).text
        return None if text is None else text.strip()

    def number(self, path: str) -> int | None:
        """A file that is one whole number."""
        return whole_number(self.text(path))

    def sysctl(self, name: str) -> int | None:
        """A kernel setting that is one number."""
        return self.number(sysctl_path(name))

    def why_not_sysctl(self, name: str) -> str:
        """Why there is no such number."""
        reading = self.reading(sysctl_path(name))
        return f"{name}: {reading.why or 'not a number'}"

    def below(self, folder: str) -> dict[str, str]:
        """The texts of all files that were read directly in a folder."""
        return {
            path: reading.text
            for path, reading in sorted(self.files.items())
            if reading.text is not None and os.path.dirname(path) == folder
        }

    def unread(self, *folders: str) -> list[str]:
        """Files in folders, and folders, that are there and could not be read, with the reason."""
        return [
            f"{path}: {reading.why}"
            for path, reading in sorted(self.files.items())
            if reading.text is None and reading.why != ABSENT and (path in folders or os.path.dirname(path) in folders)
        ]

    def named(self, *names: str) -> list[Process]:
        """Processes by their names."""
        return [process for process in self.processes if process.name in names]

    def ram_mib(self) -> int | None:
        """The machine's memory."""
        kib = meminfo(self.text("/proc/meminfo") or "").get("MemTotal")
        return None if kib is None else kib // 1024


def whole_number(text: str | None) -> int | None:
    """A decimal number of a sane length."""
    text = (text or "").strip()
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None


def meminfo(text: str) -> dict[str, int]:
    """`/proc/meminfo`: KiB, or numbers of pages, by name (proc(5))."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        value = whole_number(rest.split()[0] if rest.split() else "")
        if value is not None and value >= 0:
            found[name.strip()] = value
    return found


def sysctl_path(name: str) -> str:
    """Where the kernel has a setting."""
    return "/proc/sys/" + name.replace(".", "/")


def read_facts(
    root: Path,
    *,
    verdict: Path | None = None,
    clock: Callable[[], bool | None] | None = None,
    run: Callable[[str], str] | None = None,
) -> Facts:
    """Everything, in some hundred small files. Raises nothing.

    `verdict` is where Muster keeps what it found out about KVM. `clock` asks the kernel whether it is synchronised, and
    `run` gives what `PROGRAM --version` prints; both only make sense for the machine that this runs on.
    """
    tree = _Tree(root)
    files = {path: tree.read(path) for path in (*_FILES, *map(sysctl_path, _SYSCTLS))}
    for folder, endings in FOLDERS.items():
        files.update(tree.folder(folder, endings))
    processes = tuple(_processes(tree, files))
    for path in _cgroup_paths(files["/proc/self/cgroup"], processes):
        files[path] = tree.read(path)
    return Facts(
        files=files,
        processes=processes,
        unseen=_why_unseen(tree),
        versions=_versions(tree, files, run),
        units=_units(tree),
        kvm=tree.why_not_open("/dev/kvm"),
        clock_synchronised=_clock(files, clock),
        verdict=tree.read(str(verdict)) if verdict is not None else Reading(None, ABSENT),
        is_root=os.geteuid() == 0,
    )


class _Tree:
    """The root directory. Absolute links are taken as the machine would take them: below the root."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)

    def _place(self, path: str) -> str:
        place = self._root.rstrip("/") + path
        real = os.path.realpath(place)
        if self._root == "/":
            return place
        if not f"{real}/".startswith(self._root + "/"):
            return self._root + real
        return real

    def read(self, path: str, most: int = _MOST_BYTES) -> Reading:
        try:
            place = self._place(path)
            if not stat.S_ISREG(os.stat(place).st_mode):  # a FIFO would block
                return Reading(None, "not a file")
            with open(place, "rb") as file:
                return Reading(file.read(most).decode(errors="replace").replace("\0", "\n"))
        except (FileNotFoundError, NotADirectoryError):
            return Reading(None, self._why_gone(path))
        except (OSError, ValueError) as error:
            return Reading(None, _reason(error))

    def _why_gone(self, path: str) -> str:
        """A file that the kernel would have made says something only where the copy has others of the same tree."""
        for tree in _KERNELS_TREES:
            if path.startswith(tree + "/") and not self.names(tree):
                return f"there is no {tree} in this copy"
        return ABSENT

    def names(self, path: str) -> list[str] | Reading:
        try:
            return sorted(os.listdir(self._place(path)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, ValueError) as error:
            return Reading(None, _reason(error))

    def folder(self, path: str, endings: tuple[str, ...]) -> dict[str, Reading]:
        names = self.names(path)
        if isinstance(names, Reading):
            return {path: names}
        return {f"{path}/{name}": self.read(f"{path}/{name}") for name in names if name.endswith(endings)}

    def link(self, path: str) -> str:
        try:
            return os.readlink(self._root.rstrip("/") + path)
        except (OSError, ValueError):
            return ""

    def why_not_open(self, path: str) -> str:
        if not os.path.isdir(self._place("/dev")):
            return NOT_COPIED
        try:
            os.close(os.open(self._place(path), os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
        except (FileNotFoundError, NotADirectoryError):
            return ABSENT
        except OSError as error:
            return _reason(error)
        return ""


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return "permission denied; needs root"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _processes(tree: _Tree, files: dict[str, Reading]) -> Iterable[Process]:
    """The processes that matter; what they were told to read comes to the files."""
    names = tree.names("/proc")
    wanted = {"dnsmasq", "libvirtd", "muster", "virtqemud"}
    digits = [name for name in (names if isinstance(names, list) else ()) if name.isascii() and name.isdigit()]
    for pid in sorted(int(name) for name in digits if len(name) < 10):
        name = (tree.read(f"/proc/{pid}/comm").text or "").strip()
        if name in wanted:
            argv = tuple((tree.read(f"/proc/{pid}/cmdline").text or "").rstrip("\n").split("\n"))
            told = _configuration_of_dnsmasq(tree, argv) if name == "dnsmasq" else {}
            files.update(told)
            yield Process(
                pid=pid,
                name=name,
                argv=argv,
                configuration=tuple(told),
                network=tree.link(f"/proc/{pid}/ns/net"),
                limits=tree.read(f"/proc/{pid}/limits"),
                cgroup=tree.read(f"/proc/{pid}/cgroup"),
            )


def _why_unseen(tree: _Tree) -> str:
    """There is always a first process: a kernel that hides it (proc(5), hidepid) hides all others; copies have none."""
    why = tree.read("/proc/1/comm").why
    return (
        f"processes of others cannot be seen, /proc/1/comm: {why}; root sees them, and a copy of all of /proc"
        if why
        else ""
    )


def _configuration_of_dnsmasq(tree: _Tree, argv: tuple[str, ...]) -> dict[str, Reading]:
    """The files of a dnsmasq, by its arguments and by one another; the usual one when it was told none (dnsmasq(8))."""
    found: dict[str, Reading] = {}
    waiting = _values(argv, "--conf-file", "-C") or ["/etc/dnsmasq.conf"]
    waiting += [path for value in _values(argv, "--conf-dir", "-7") for path in _files_of(tree, value)]
    while waiting:
        path = waiting.pop(0)
        if path in found or not path.startswith("/"):
            continue
        found[path] = tree.read(path)
        for line in (found[path].text or "").splitlines():
            name, _, value = (part.strip() for part in line.partition("="))
            waiting += [value] if name == "conf-file" else _files_of(tree, value) if name == "conf-dir" else []
    return found


def _files_of(tree: _Tree, value: str) -> list[str]:
    """The files of a folder, which may be followed by the endings that are left out."""
    folder, *without = value.split(",")
    folder = folder.rstrip("/")
    names = tree.names(folder)
    if isinstance(names, Reading):
        return [f"{folder}/*"]  # which cannot be read for the same reason
    # Endings with an asterisk are the only ones that count, and are hardly used (dnsmasq(8), --conf-dir).
    left_out = ("~", *(ending for ending in without if not ending.startswith("*")))
    return [f"{folder}/{name}" for name in names if not name.endswith(left_out) and not name.startswith(".")]


def _values(argv: tuple[str, ...], long: str, short: str) -> list[str]:
    found = [argument.partition("=")[2] for argument in argv if argument.startswith(long + "=")]
    found += [value for argument, value in pairwise(argv) if argument in (long, short)]
    return found + [argument[2:] for argument in argv if argument.startswith(short) and len(argument) > 2]


def cgroup_paths(text: str) -> list[str]:
    """Where the limits of tasks of a process are, by its `/proc/PID/cgroup` (cgroups(7)), its own cgroup first.

    Version 1 has a hierarchy `pids`; where there is none, version 2's applies. The topmost has a limit in a container
    only, to which its own cgroup is the root.
    """
    paths = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if path.startswith("/"):
            paths["2" if number == "0" and not controllers else controllers] = path
    top, path = ("/sys/fs/cgroup/pids", paths["pids"]) if "pids" in paths else ("/sys/fs/cgroup", paths.get("2", "/"))
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return ["/".join([top, *parts[:depth], "pids.max"]) for depth in range(len(parts), -1, -1)]


def _cgroup_paths(own: Reading, processes: tuple[Process, ...]) -> list[str]:
    texts = [own.text or "", *(process.cgroup.text or "" for process in processes)]
    return [path for text in texts for path in cgroup_paths(text)]


def _units(tree: _Tree) -> dict[str, str]:
    """The text of each service that matters, with its drop-ins behind it; without those that are masked."""
    found: dict[str, str] = {}
    masked: set[str] = set()
    for folder in UNIT_FOLDERS:
        names = tree.names(folder)
        for name in names if isinstance(names, list) else ():
            if name.endswith((".service", ".target", ".socket")) and name not in found and name not in masked:
                text = tree.read(f"{folder}/{name}").text
                if text == "" or tree.link(f"{folder}/{name}") == "/dev/null":
                    masked.add(name)
                elif text is not None:
                    found[name] = text
    for folder in UNIT_FOLDERS:
        names = tree.names(folder)
        for name in names if isinstance(names, list) else ():
            if name.endswith(".d") and name[:-2] in found:
                parts = tree.folder(f"{folder}/{name}", (".conf",))
                found[name[:-2]] += "".join("\n" + (part.text or "") for part in parts.values())
    return found


def _versions(tree: _Tree, files: dict[str, Reading], run: Callable[[str], str] | None) -> dict[str, Version]:
    found = dpkg_versions(tree.read("/var/lib/dpkg/status", _MOST_PACKAGES_BYTES).text or "")
    kernel = kernel_version(
        files[sysctl_path("kernel.osrelease")].text or "",
        files["/proc/version"].text or "",
        files["/proc/version_signature"].text or "",
    )
    if kernel is not None:
        found["kernel"] = kernel
    for part, programs in _PROGRAMS.items() if run is not None else ():
        for program in programs if part not in found else ():
            version = first_version(run(program)) if run is not None else None
            if version is not None and part not in found:
                found[part] = version
    return found


def _clock(files: dict[str, Reading], clock: Callable[[], bool | None] | None) -> bool | None:
    if clock is not None:
        return clock()
    return True if files["/run/systemd/timesync/synchronized"].text is not None else None

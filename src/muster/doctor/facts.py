"""What the checks know of a host: files, processes, units and versions, as `reader` found them."""

import os
import re

from msgspec import Struct, field

from muster.doctor.texts import Version, whole_number

ABSENT = "absent"
#: Why /dev/kvm does not open in a copy of a machine's files, which says nothing of the machine.
NOT_COPIED = "there is no /dev in this copy"

#: OpenStack's services by their folder, with all folders that their settings are in, the last one the strongest. What
#: Red Hat's packages bring (`*-dist.conf`) is in /usr/share, and is read before all others.
SERVICES = {
    "/etc/nova": ("/usr/share/nova", "/etc/nova", "/etc/nova/nova.conf.d", "/etc/nova/nova-compute.conf.d"),
    "/etc/neutron": (
        "/usr/share/neutron",
        "/etc/neutron",
        "/etc/neutron/plugins/ml2",
        "/etc/neutron/neutron.conf.d",
        "/etc/neutron/server.conf.d",
        "/etc/neutron/agent.conf.d",
        "/etc/neutron/conf.d/common",
        "/etc/neutron/conf.d/neutron-openvswitch-agent",
    ),
    "/etc/cinder": ("/usr/share/cinder", "/etc/cinder", "/etc/cinder/cinder.conf.d"),
}


class Reading(Struct, frozen=True):
    """A file's text, or why there is none; and when it was written last, in seconds since 1970, if that is known."""

    text: str | None
    why: str = ""
    written_s: float | None = None


class Process(Struct, frozen=True, kw_only=True):
    """A process that matters here, by the name of its program; `qemu` is a guest, whatever its emulator is called.

    `network` names its network namespace, empty where that cannot be told. `root` is the path under which its files are
    found from here: empty where it sees the same files as this program, `/proc/PID/root` in a container.
    `configuration`: the files that it was told to read, as they are found from here: of a dnsmasq also those that these
    name; of libvirt's daemon its own and qemu.conf; of Muster its settings.
    """

    pid: int
    name: str
    argv: tuple[str, ...]
    network: str
    limits: Reading
    cgroup: Reading
    root: str = ""
    configuration: tuple[str, ...] = ()
    started_s: float | None = None


class Facts(Struct, frozen=True, kw_only=True):
    """All that the checks know. `kvm`: why /dev/kvm does not open, empty if it does; an unknown clock is None.

    `unseen`: why processes of others cannot be seen, so that one which is not here may be there; empty if they can.
    `versions` are those that run, else those that are installed; `other_versions` what else runs, in containers.
    `services`: the folders of each service of OpenStack, by the main one. `enabled`: the units that are started at
    boot, None where that cannot be told.
    """

    files: dict[str, Reading]
    processes: tuple[Process, ...] = ()
    unseen: str = ""
    versions: dict[str, Version] = {}
    other_versions: tuple[dict[str, Version], ...] = ()
    units: dict[str, str] = {}
    enabled: frozenset[str] | None = None
    services: dict[str, tuple[str, ...]] = field(default_factory=SERVICES.copy)
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

    def at_boot(self, *names: str) -> list[str]:
        """Which of these units are there and started at boot, as far as that can be told."""
        return [name for name in names if name in self.units and (self.enabled is None or name in self.enabled)]

    def of_muster(self) -> dict[str, str]:
        """The texts of Muster's settings: where a package has them, and those that its processes were started with."""
        told = [path for process in self.named("muster") for path in process.configuration]
        return self.below("/etc/muster") | {path: text for path in told if (text := self.text(path)) is not None}

    def ram_mib(self) -> int | None:
        """The machine's memory."""
        kib = meminfo(self.text("/proc/meminfo") or "").get("MemTotal")
        return None if kib is None else kib // 1024


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


def label_path(process: Process) -> str:
    """Where the kernel says what confines a process, by SELinux or AppArmor (proc(5))."""
    return f"/proc/{process.pid}/attr/current"


#: A limit of a cgroup: the controller, and its file in version 1 and in version 2.
TASKS = ("pids", "pids.max", "pids.max")
MEMORY = ("memory", "memory.limit_in_bytes", "memory.max")


def cgroup_paths(text: str, limit: tuple[str, str, str] = TASKS) -> list[str]:
    """Where a limit of a process is, by its `/proc/PID/cgroup` (cgroups(7)), its own cgroup first.

    Version 1 has a hierarchy for the controller; where there is none, version 2's applies. The topmost has a limit in a
    container only, to which its own cgroup is the root.
    """
    controller, first, second = limit
    paths = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if path.startswith("/"):
            paths["2" if number == "0" and not controllers else controllers] = path
    top, path, file = "/sys/fs/cgroup", paths.get("2", "/"), second
    if controller in paths:
        top, path, file = f"{top}/{controller}", paths[controller], first
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return ["/".join([top, *parts[:depth], file]) for depth in range(len(parts), -1, -1)]


def of_all_guests(facts: Facts, limit: tuple[str, str, str]) -> list[tuple[str, ...]]:
    """Where a limit that guests share is, for each way up from those that run."""
    guests = [cgroup_paths(process.cgroup.text, limit) for process in facts.named("qemu") if process.cgroup.text]
    return sorted({tuple(path for path in paths if not _OF_ONE_GUEST.search(path)) for paths in guests})


# A guest's own group, by libvirt's names of it with systemd and without, and what is in it.
_OF_ONE_GUEST = re.compile(r"/machine-qemu[^/]*\.scope/|\.libvirt-qemu/")

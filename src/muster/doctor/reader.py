"""Reads a host once. With `tree`, `processes` and `units` the only module that looks at the machine."""

import os
from collections.abc import Callable
from pathlib import Path

from muster.doctor.facts import (
    ABSENT,
    MEMORY,
    SERVICES,
    TASKS,
    Facts,
    Process,
    Reading,
    cgroup_paths,
    label_path,
    sysctl_path,
)
from muster.doctor.processes import read_processes
from muster.doctor.rpm import DATABASES, QUERY, rpm_versions
from muster.doctor.texts import Version, dpkg_versions, first_version, kernel_version
from muster.doctor.tree import Tree
from muster.doctor.units import read_enabled, read_units

_MOST_PACKAGES_BYTES = 1 << 26
_DPKG = "/var/lib/dpkg/status"
_FILES = (
    "/proc/cpuinfo",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/modules",
    "/proc/net/stat/arp_cache",
    "/proc/net/stat/ndisc_cache",
    "/proc/net/stat/nf_conntrack",
    "/proc/pressure/cpu",
    "/proc/pressure/io",
    "/proc/pressure/memory",
    "/proc/swaps",
    "/proc/version",
    "/proc/version_signature",
    "/proc/self/cgroup",
    "/proc/self/limits",
    "/sys/fs/selinux/enforce",
    "/sys/kernel/mm/ksm/run",
    "/sys/kernel/mm/ksm/pages_to_scan",
    "/sys/kernel/mm/ksm/sleep_millisecs",
    "/sys/kernel/mm/ksm/pages_sharing",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/module/apparmor/parameters/enabled",
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
KOLLA = "/etc/kolla"
_KOLLAS_SERVICES = ("nova-", "neutron-", "cinder-")
_OTHER_FOLDERS = {
    "/etc/libvirt": (".conf",),
    f"{KOLLA}/nova-libvirt": (".conf",),
    "/etc/rabbitmq": (".conf",),
    "/etc/rabbitmq/conf.d": (".conf",),
    f"{KOLLA}/rabbitmq": (".conf",),
    "/etc/muster": (".toml",),
}
_PROGRAMS = {
    "qemu": ("qemu-system-x86_64", "/usr/libexec/qemu-kvm"),
    "libvirt": ("virtqemud", "libvirtd"),
    "openvswitch": ("ovs-vswitchd",),
    "dnsmasq": ("dnsmasq",),
}
#: What a process in a container tells of the versions that are used.
_BROUGHT = {
    "libvirtd": ("libvirt", "qemu"),
    "virtqemud": ("libvirt", "qemu"),
    "ovs-vswitchd": ("openvswitch",),
    "dnsmasq": ("dnsmasq",),
}


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
    tree = Tree(root)
    files = {path: tree.read(path) for path in (*_FILES, *map(sysctl_path, _SYSCTLS))}
    processes = read_processes(tree, files)
    services = _services(tree, processes)
    folders = {folder: (".conf", ".ini") for several in services.values() for folder in several} | _OTHER_FOLDERS
    for folder, endings in folders.items():
        files.update(tree.folder(folder, endings))
    flows = [f"/proc/{process.pid}/net/stat/nf_conntrack" for process in processes]
    labels = [label_path(process) for process in processes if process.name == "qemu"]
    for path in (*flows, *labels, *_cgroup_paths(files["/proc/self/cgroup"], processes)):
        files[path] = tree.read(path)
    units = read_units(tree)
    versions, other_versions = _versions(tree, files, processes, run)
    return Facts(
        files=files,
        processes=processes,
        unseen=_why_unseen(tree),
        versions=versions,
        other_versions=other_versions,
        units=units,
        enabled=read_enabled(tree, units),
        services=services,
        kvm=tree.why_not_open("/dev/kvm"),
        clock_synchronised=_clock(files, clock),
        verdict=tree.read(str(verdict)) if verdict is not None else Reading(None, ABSENT),
        is_root=os.geteuid() == 0,
    )


def _services(tree: Tree, processes: tuple[Process, ...]) -> dict[str, tuple[str, ...]]:
    """Those of the host, and those in containers: by Kolla's folders, else by the files that their processes see."""
    names = [name for name in tree.named(KOLLA) if name.startswith(_KOLLAS_SERVICES) and name != "nova-libvirt"]
    kollas = {f"{KOLLA}/{name}": (f"{KOLLA}/{name}",) for name in names}
    found = SERVICES | kollas
    for process in () if kollas else processes:
        folder = {"nova-compute": "/etc/nova", "neutron": "/etc/neutron"}.get(process.name, "")
        if folder and process.root:
            found[process.root + folder] = tuple(process.root + one for one in SERVICES[folder])
    return found


def _cgroup_paths(own: Reading, processes: tuple[Process, ...]) -> list[str]:
    texts = [own.text or "", *(process.cgroup.text or "" for process in processes)]
    return [path for text in texts for limit in (TASKS, MEMORY) for path in cgroup_paths(text, limit)]


def _why_unseen(tree: Tree) -> str:
    """There is always a first process: a kernel that hides it (proc(5), hidepid) hides all others; copies have none."""
    why = tree.read("/proc/1/comm").why
    return (
        f"processes of others cannot be seen, /proc/1/comm: {why}; root sees them, and a copy of all of /proc"
        if why
        else ""
    )


def _versions(
    tree: Tree, files: dict[str, Reading], processes: tuple[Process, ...], run: Callable[[str], str] | None
) -> tuple[dict[str, Version], tuple[dict[str, Version], ...]]:
    found, others = _run_by_processes(tree, processes)
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
    return found, others


def _run_by_processes(
    tree: Tree, processes: tuple[Process, ...]
) -> tuple[dict[str, Version], tuple[dict[str, Version], ...]]:
    """By the packages among the processes' own files; where these differ, the first process's, and what others run.

    Namespaces have mounts of their own, and the same files: each database is read once.
    """
    installed = _packages(tree, "")
    known = {_databases(tree, ""): installed}
    running: dict[str, Version] = {}
    others: list[dict[str, Version]] = []
    for process in processes:
        if process.name not in _BROUGHT:
            continue
        databases = _databases(tree, process.root)
        if databases not in known:
            known[databases] = _packages(tree, process.root)
        inside = known[databases]
        brought = {part: inside[part] for part in _BROUGHT[process.name] if part in inside}
        if any(running.get(part, number) != number for part, number in brought.items()) and brought not in others:
            others.append(brought)
        running = brought | running
    return installed | running, tuple(others)


def _databases(tree: Tree, root: str) -> tuple[tuple[int, int] | None, ...]:
    return tuple(tree.identity(root + path) for path in (_DPKG, *DATABASES))


def _packages(tree: Tree, root: str) -> dict[str, Version]:
    """By the databases of dpkg and RPM below a root."""
    found = dpkg_versions(tree.read(root + _DPKG, _MOST_PACKAGES_BYTES).text or "")
    for database in DATABASES:
        found |= rpm_versions(tree.blobs(root + database, QUERY))
    return found


def _clock(files: dict[str, Reading], clock: Callable[[], bool | None] | None) -> bool | None:
    if clock is not None:
        return clock()
    return True if files["/run/systemd/timesync/synchronized"].text is not None else None

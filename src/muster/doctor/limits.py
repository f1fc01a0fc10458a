"""The kernel's tables and limits against the planned number of guests. What `--fix` sets is here and in `messages`."""

from collections.abc import Iterable

from muster.doctor.facts import ABSENT, Facts, cgroup_paths
from muster.doctor.findings import Check, Plan, Result, Run, advice, good, not_known, problem
from muster.doctor.libvirt import TASKS_PER_GUEST
from muster.doctor.openstack import settings_of, unread
from muster.doctor.texts import limit

_DAEMONS = ("libvirtd", "virtqemud")
#: libvirt's own units say 8 tasks per guest at least, and at least 1, often 2 files of the daemon.
_LEAST_TASKS_PER_GUEST = 8
_FILES_OF_DAEMON_PER_GUEST = 8
_NEIGHBOURS_PER_GUEST = 4
_LEAST_NEIGHBOURS = 4096
_OTHER_NEIGHBOURS = 8  # of the host's own
_FLOWS_PER_GUEST = 512
_FILES_PER_GUEST = 256
_MOST_PIDS = 1 << 22  # PID_MAX_LIMIT on 64 bits (proc(5))


def power_of_two(number: int) -> int:
    """The least power of two that is not below it."""
    return 1 << max(0, number - 1).bit_length()


def _neighbours(family: str) -> Run:
    prefix = f"net.{family}.neigh.default.gc_thresh"

    def run(facts: Facts, plan: Plan) -> Iterable[Result]:
        found = [facts.sysctl(f"{prefix}{n}") for n in (1, 2, 3)]
        if None in found:
            why = facts.why_not_sysctl(f"{prefix}3")
            return good("No IPv6 on this machine") if family == "ipv6" and "absent" in why else not_known(why)
        first, second, most = (value or 0 for value in found)
        need = max(_LEAST_NEIGHBOURS, power_of_two(_NEIGHBOURS_PER_GUEST * plan.guests))
        said = f"gc_thresh1-3 = {first}, {second}, {most}; all namespaces share them"
        sysctls = {
            f"{prefix}1": max(first, need // 4), f"{prefix}2": max(second, need // 2), f"{prefix}3": max(most, need),
        }  # fmt: skip
        mend = "sysctl -w " + " ".join(f"{name}={value}" for name, value in sysctls.items())
        if most < plan.guests + _OTHER_NEIGHBOURS:
            return problem(f"{said}; {plan.guests} guests are planned", mend, sysctls)
        if most < need:
            return advice(f"{said}; {need} are better for {plan.guests} guests", mend, sysctls)
        return good(said)

    return run


def _conntrack(facts: Facts, plan: Plan) -> Iterable[Result]:
    name = "net.netfilter.nf_conntrack_max"
    most, used = facts.sysctl(name), facts.sysctl("net.netfilter.nf_conntrack_count")
    if most is None:
        why = facts.why_not_sysctl(name)
        return good("This machine tracks no connections") if "absent" in why else not_known(why)
    need = max(262_144, power_of_two(_FLOWS_PER_GUEST * plan.guests))
    said = f"{used if used is not None else '?'} of {most} connections"
    sysctls = {name: need}
    if used is not None and most and used > 0.8 * most:
        return problem(said, f"sysctl -w {name}={max(need, 2 * most)}", {name: max(need, 2 * most)})
    if most < _FLOWS_PER_GUEST * plan.guests:
        return advice(
            f"{said}; {_FLOWS_PER_GUEST} for each of {plan.guests} guests are more", f"sysctl -w {name}={need}", sysctls
        )
    return good(said)


def _at_least(name: str, need_of: int, fixed: int, *, is_bad_below: int = 0, most: int | None = None) -> Run:
    """A setting that must be `fixed` and `need_of` for each guest; below `is_bad_below` for each it is a problem.

    `most` is what the kernel takes.
    """

    def run(facts: Facts, plan: Plan) -> Iterable[Result]:
        value = facts.sysctl(name)
        if value is None:
            return not_known(facts.why_not_sysctl(name))
        need = fixed + need_of * plan.guests
        need = need if most is None else min(need, most)
        if value >= need:
            return good(f"{name} = {value}")
        better = power_of_two(need)
        found = f"{name} = {value}; {plan.guests} guests may need {need}"
        level = problem if value < is_bad_below * plan.guests else advice
        return level(found, f"sysctl -w {name}={better}", {name: better})

    return run


def _processes(facts: Facts, plan: Plan) -> Iterable[Result]:
    found: list[Result] = []
    for name, most in (("kernel.pid_max", _MOST_PIDS), ("kernel.threads-max", None)):
        found += _at_least(name, TASKS_PER_GUEST, 4096, is_bad_below=_LEAST_TASKS_PER_GUEST, most=most)(facts, plan)
    return found


def _cgroup_tasks(facts: Facts, plan: Plan) -> Iterable[Result]:
    found: list[Result] = []
    owners = [(f"{process.name} {process.pid}", process.cgroup.text) for process in facts.named(*_DAEMONS)]
    if not owners and facts.unseen:
        return not_known(facts.unseen)
    for owner, text in owners or [("this process", facts.text("/proc/self/cgroup"))]:
        found += _tasks_of(facts, owner, text, _LEAST_TASKS_PER_GUEST * plan.guests)
    return found


def _tasks_of(facts: Facts, owner: str, text: str | None, need: int) -> list[Result]:
    """The lowest limit of the process's cgroup and those above it."""
    if text is None:
        return not_known(f"{owner}: its cgroup cannot be read")
    limits = [(number, path) for path in cgroup_paths(text) if (number := facts.number(path)) is not None]
    unread = [f"{path}: {why}" for path in cgroup_paths(text) if (why := facts.reading(path).why) not in ("", ABSENT)]
    if unread:
        return not_known(f"{owner}: {'; '.join(unread)}")
    if not limits:
        return good(f"{owner}: no limit of tasks")
    lowest, path = min(limits)
    if lowest < need:
        mend = "TasksMax=infinity in the unit of that name"
        return problem(f"{owner}: at most {lowest} tasks by {path}; {need} are needed", mend)
    return good(f"{owner}: at most {lowest} tasks")


def _daemon_limits(facts: Facts, plan: Plan) -> Iterable[Result]:
    found: list[Result] = []
    owners = [(f"{process.name} {process.pid}", process.limits) for process in facts.named(*_DAEMONS)]
    if not owners and facts.unseen:
        return not_known(facts.unseen)
    for owner, reading in owners or [("this process", facts.reading("/proc/self/limits"))]:
        if reading.text is None:
            found += not_known(f"{owner}: {reading.why}")
            continue
        files, tasks = limit(reading.text, "Max open files"), limit(reading.text, "Max processes")
        need = _FILES_OF_DAEMON_PER_GUEST * plan.guests
        if files is None or tasks is None:
            found += not_known(f"{owner}: limits without open files and processes")
        elif files < need:
            found += (problem if owners else advice)(
                f"{owner}: {files:.0f} open files; {need} for {plan.guests} guests", "LimitNOFILE=1048576 in the unit"
            )
        elif tasks < _LEAST_TASKS_PER_GUEST * plan.guests:
            found += (problem if owners else advice)(
                f"{owner}: {tasks:.0f} processes for {plan.guests} guests", "LimitNPROC=infinity in the unit"
            )
        else:
            found += good(f"{owner}: {_said(files)} open files, {_said(tasks)} processes")
    return found


def _said(number: float) -> str:
    return "unlimited" if number == float("inf") else f"{number:.0f}"


def _bridge_filtering(facts: Facts, _: Plan) -> Iterable[Result]:
    value = facts.sysctl("net.bridge.bridge-nf-call-iptables")
    said = settings_of(facts, "/etc/neutron").get(("securitygroup", "firewall_driver"))
    driver = "" if said is None else said.value
    needs_it = "iptables" in driver
    hidden = unread(facts, "/etc/neutron")
    if not driver and hidden and value != 1:
        return not_known("; ".join(hidden))
    if value is None:
        why = facts.why_not_sysctl("net.bridge.bridge-nf-call-iptables")
        if needs_it:
            return problem(f"firewall_driver = {driver}, and br_netfilter is not loaded", "modprobe br_netfilter")
        return good("br_netfilter is not loaded") if "absent" in why else not_known(why)
    if needs_it and value == 0:
        names = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")
        return problem(
            f"firewall_driver = {driver}, and bridged traffic does not pass iptables",
            f"sysctl -w {names[0]}=1 {names[1]}=1",
            dict.fromkeys(names, 1),
        )
    return good(f"bridge-nf-call-iptables = {value}{f', firewall_driver = {driver}' if driver else ''}")


_MEASURED = "measured: 31 leases/s and pauses of 60 s at 1,024 neighbours, 2,350 leases/s above"

CHECKS = (
    Check(
        id="limits.neighbours-ipv4",
        what="Neighbour table, IPv4",
        cost="'neighbor table overflow': answers to guests are lost, leases and pings stall",
        source=f"arp(7); https://phabricator.wikimedia.org/T234373; {_MEASURED}",
        run=_neighbours("ipv4"),
    ),
    Check(
        id="limits.neighbours-ipv6",
        what="Neighbour table, IPv6",
        cost="The same for IPv6",
        source="kernel documentation: ip-sysctl, neigh/default/gc_thresh3",
        run=_neighbours("ipv6"),
    ),
    Check(
        id="limits.conntrack",
        what="Connections that are tracked",
        cost="'nf_conntrack: table full, dropping packet': new connections of all guests fail",
        source="kernel documentation: nf_conntrack-sysctl",
        run=_conntrack,
    ),
    Check(
        id="limits.inotify-instances",
        what="inotify instances of a user",
        cost="Each dnsmasq takes one: at the default of 128 the DHCP server of the 117th network or so does not start",
        source="inotify(7); https://gerrit.mcp.mirantis.com, salt-models/reclass-system 97bcceca",
        run=_at_least("fs.inotify.max_user_instances", 1, 256),
    ),
    Check(
        id="limits.inotify-watches",
        what="inotify watches of a user",
        cost="A DHCP server does not see new entries",
        source="inotify(7)",
        run=_at_least("fs.inotify.max_user_watches", 16, 8192),
    ),
    Check(
        id="limits.open-files",
        what="Open files of all processes",
        cost="Everything that opens a file or a socket fails",
        source="proc(5): fs.file-max",
        run=_at_least("fs.file-max", _FILES_PER_GUEST, 65_536),
    ),
    Check(
        id="limits.files-per-process",
        what="Open files that one process may be allowed",
        cost="The daemon of all guests cannot take more of them",
        source="proc(5): fs.nr_open",
        run=_at_least("fs.nr_open", 16, 65_536),
    ),
    Check(
        id="limits.processes",
        what="Processes and threads",
        cost="QEMU cannot make a thread, and dies",
        source="proc(5): kernel.pid_max, kernel.threads-max; libvirtd.service: 8 tasks per guest at least",
        run=_processes,
    ),
    Check(
        id="limits.cgroup-tasks",
        what="Tasks in the cgroup of guests' parent",
        cost="QEMU does not start, or cannot make a thread",
        source="libvirtd.service: TasksMax; kernel documentation: cgroup-v2, pids.max",
        run=_cgroup_tasks,
    ),
    Check(
        id="limits.daemon",
        what="Files and processes of libvirt's daemon",
        cost="The next guest is not started",
        source="libvirtd.service: LimitNOFILE; setrlimit(2)",
        run=_daemon_limits,
    ),
    Check(
        id="limits.memory-maps",
        what="Memory maps of one process",
        cost="A large QEMU with many devices cannot map more memory",
        source="kernel documentation: vm.max_map_count, 65,530 by default",
        run=_at_least("vm.max_map_count", 0, 65_530),
    ),
    Check(
        id="network.bridge-filtering",
        what="Whether bridged traffic passes iptables",
        cost="Security groups by iptables filter nothing",
        source="neutron: firewall_driver; kernel documentation: bridge-nf-call-iptables",
        run=_bridge_filtering,
    ),
)

"""The kernel's tables and limits against the planned number of guests. What `--fix` sets is here and in `messages`."""

from collections.abc import Iterable, Sequence

from muster.doctor.facts import ABSENT, TASKS, Facts, Process, cgroup_paths, of_all_guests
from muster.doctor.findings import Check, Plan, Result, Run, advice, good, not_known, problem
from muster.doctor.libvirt import TASKS_PER_GUEST
from muster.doctor.openstack import kind, settings_of, unread
from muster.doctor.texts import kernel_counters, limit, unit_settings, whole_number

_DAEMONS = ("libvirtd", "virtqemud")
#: libvirt's own units say 8 tasks per guest at least, and at least 1, often 2 files of the daemon.
_LEAST_TASKS_PER_GUEST = 8
_LEAST_FILES_OF_DAEMON_PER_GUEST = 2
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
            if ABSENT in why and facts.sysctl(f"{prefix}3") is None and _is_inside(facts):
                return not_known(f"{why}: the kernel tells it in the first network namespace only")
            return good("No IPv6 on this machine") if family == "ipv6" and ABSENT in why else not_known(why)
        first, second, most = (value or 0 for value in found)
        used, times_full = _table(facts, family)
        need = max(_LEAST_NEIGHBOURS, power_of_two(_NEIGHBOURS_PER_GUEST * plan.guests))
        said = f"gc_thresh1-3 = {first}, {second}, {most}; all namespaces share them"
        sysctls = {
            f"{prefix}1": max(first, need // 4), f"{prefix}2": max(second, need // 2), f"{prefix}3": max(most, need),
        }  # fmt: skip
        mend = "sysctl -w " + " ".join(f"{name}={value}" for name, value in sysctls.items())
        if most < plan.guests + _OTHER_NEIGHBOURS:
            return problem(f"{said}; {plan.guests} guests are planned", mend, sysctls)
        if used > 0.8 * most or (times_full and most < need):
            full = f"; there are {used}, and it has been full {times_full} times since the boot"
            return problem(said + full, mend, sysctls)
        if most < need:
            return advice(f"{said}; {need} are better for {plan.guests} guests", mend, sysctls)
        return good(said)

    return run


def _is_inside(facts: Facts) -> bool:
    """Whether this is another network namespace than the machine's first, which has such a table."""
    return facts.reading("/proc/net/stat/arp_cache").why == ABSENT


def _table(facts: Facts, family: str) -> tuple[int, int]:
    """How many neighbours there are in all namespaces, and how often one more had no place (kernel: neigh_stat)."""
    counters = kernel_counters(facts.text(f"/proc/net/stat/{'arp' if family == 'ipv4' else 'ndisc'}_cache") or "")
    return max(counters.get("entries", []), default=0), sum(counters.get("table_fulls", []))


def _flows(facts: Facts) -> tuple[int | None, int]:
    """Connections in the namespace that has most, and how many the kernel threw out or refused for want of room.

    Packets are dropped, too, where two of a flow meet at once; each of these is among `insert_failed`.
    """
    own = facts.sysctl("net.netfilter.nf_conntrack_count")
    paths = [f"/proc/{process.pid}/net/stat/nf_conntrack" for process in facts.processes]
    tables = [kernel_counters(facts.text(path) or "") for path in ("/proc/net/stat/nf_conntrack", *paths)]
    used = [number for table in tables for number in table.get("entries", [])] + ([] if own is None else [own])
    return max(used, default=None), max(map(_without_room, tables))


def _without_room(table: dict[str, list[int]]) -> int:
    dropped, met, thrown_out = (sum(table.get(name, [])) for name in ("drop", "insert_failed", "early_drop"))
    return max(0, dropped - met) + thrown_out


def _conntrack(facts: Facts, plan: Plan) -> Iterable[Result]:
    name = "net.netfilter.nf_conntrack_max"
    most, (used, lost) = facts.sysctl(name), _flows(facts)
    if most is None:
        why = facts.why_not_sysctl(name)
        return good("This machine tracks no connections") if "absent" in why else not_known(why)
    need = max(262_144, power_of_two(_FLOWS_PER_GUEST * plan.guests))
    said = f"{used if used is not None else '?'} of {most} connections, in the network namespace that has most"
    sysctls = {name: need}
    if used is not None and most and used > 0.8 * most:
        return problem(said, f"sysctl -w {name}={max(need, 2 * most)}", {name: max(need, 2 * most)})
    if lost and most < need:
        return problem(f"{said}; {lost} had no room since the boot", f"sysctl -w {name}={need}", sysctls)
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
    threads = _threads(facts)
    for name, most in (("kernel.pid_max", _MOST_PIDS), ("kernel.threads-max", None)):
        value = facts.sysctl(name)
        if value is not None and threads > 0.8 * value:
            better = max(2 * value, power_of_two(TASKS_PER_GUEST * plan.guests))
            better = min(better, most or better)
            found += problem(f"{name} = {value}; {threads} are there", f"sysctl -w {name}={better}", {name: better})
        else:
            found += _at_least(name, TASKS_PER_GUEST, 4096, is_bad_below=_LEAST_TASKS_PER_GUEST, most=most)(facts, plan)
    return found


def _threads(facts: Facts) -> int:
    """All of the machine, by `/proc/loadavg` (proc(5)); 0 where it cannot be told."""
    words = (facts.text("/proc/loadavg") or "").split()
    return whole_number(words[3].partition("/")[2]) or 0 if len(words) > 3 else 0


def _cgroup_tasks(facts: Facts, plan: Plan) -> Iterable[Result]:
    """Of the groups that guests share where some run, else of what starts them."""
    shared = of_all_guests(facts, TASKS)
    need = _LEAST_TASKS_PER_GUEST * plan.guests
    if shared:
        return [one for paths in shared for one in _lowest(facts, "guests", paths, need)]
    owners = [(f"{process.name} {process.pid}", process.cgroup.text) for process in facts.named(*_DAEMONS)]
    if not owners and facts.unseen:
        return not_known(facts.unseen)
    found: list[Result] = []
    for owner, text in owners or [("this process", facts.text("/proc/self/cgroup"))]:
        if text is None:
            found += not_known(f"{owner}: its cgroup cannot be read")
        else:
            found += _lowest(facts, owner, cgroup_paths(text), need)
    return found


def _lowest(facts: Facts, owner: str, paths: Sequence[str], need: int) -> list[Result]:
    """The lowest limit of a cgroup and those above it."""
    limits = [(number, path) for path in paths if (number := facts.number(path)) is not None]
    unread = [f"{path}: {why}" for path in paths if (why := facts.reading(path).why) not in ("", ABSENT)]
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
    running = facts.named(*_DAEMONS)
    if not running and facts.unseen:
        return not_known(facts.unseen)
    found = [one for process in running for one in _limits_of(process, plan)]
    waiting = [] if running else facts.at_boot(*(f"{daemon}.service" for daemon in _DAEMONS))
    found += [one for unit in waiting for one in _limits_in(unit, facts.units[unit], plan)]
    return found or _limits_here(facts, plan)


def _limits_of(process: Process, plan: Plan) -> list[Result]:
    owner = f"{process.name} {process.pid}"
    text = process.limits.text
    if text is None:
        return not_known(f"{owner}: {process.limits.why}")
    files, tasks = limit(text, "Max open files"), limit(text, "Max processes")
    if files is None or tasks is None:
        return not_known(f"{owner}: limits without open files and processes")
    if files < _FILES_OF_DAEMON_PER_GUEST * plan.guests:
        return _few_files(owner, f"{files:.0f} open files", files, plan, "LimitNOFILE=1048576 in the unit")
    if tasks < _LEAST_TASKS_PER_GUEST * plan.guests:
        return problem(f"{owner}: {tasks:.0f} processes for {plan.guests} guests", "LimitNPROC=infinity in the unit")
    return good(f"{owner}: {_said(files)} open files, {_said(tasks)} processes")


def _few_files(owner: str, found: str, files: float, plan: Plan, mend: str) -> list[Result]:
    level = problem if files < _LEAST_FILES_OF_DAEMON_PER_GUEST * plan.guests else advice
    need = _FILES_OF_DAEMON_PER_GUEST * plan.guests
    return level(f"{owner}: {found}; {plan.guests} guests may need {need}", mend)


def _limits_in(unit: str, text: str, plan: Plan) -> list[Result]:
    """What a daemon that is started when somebody calls it will have; systemd's own default is half a million.

    Of `soft:hard` the hard one: libvirt's daemons raise theirs to it as they start (its common.service.extra.in).
    """
    said = (unit_settings(text, "LimitNOFILE") or [""])[-1]
    files = whole_number(said.rpartition(":")[2])
    if files is not None and files < _FILES_OF_DAEMON_PER_GUEST * plan.guests:
        return _few_files(unit, f"LimitNOFILE={said}", files, plan, "LimitNOFILE=1048576 in a drop-in of it")
    return good(f"{unit} does not run now; {f'LimitNOFILE={said}' if said else 'it has no LimitNOFILE'}")


def _limits_here(facts: Facts, plan: Plan) -> list[Result]:
    """Those of this program, which Muster would hand on to a libvirtd that it starts from here."""
    text = facts.text("/proc/self/limits") or ""
    files, need = limit(text, "Max open files"), _FILES_OF_DAEMON_PER_GUEST * plan.guests
    if files is not None and files < need:
        return advice(
            f"No daemon of libvirt runs; one started here has {files:.0f} open files, {need} for {plan.guests} guests",
            f"ulimit -n {max(65_536, need)} before, where Muster starts it",
        )
    return good("No daemon of libvirt runs here")


def _said(number: float) -> str:
    return "unlimited" if number == float("inf") else f"{number:.0f}"


def _neutrons(facts: Facts) -> list[str]:
    return [service for service in facts.services if kind(service) == "neutron"]


def _firewall_driver(facts: Facts) -> str:
    """Of several services, such as Kolla's agents, the one that says it."""
    found = [settings_of(facts, service).get(("securitygroup", "firewall_driver")) for service in _neutrons(facts)]
    return next((setting.value for setting in found if setting is not None), "")


def _bridge_filtering(facts: Facts, _: Plan) -> Iterable[Result]:
    value = facts.sysctl("net.bridge.bridge-nf-call-iptables")
    driver = _firewall_driver(facts)
    needs_it = "iptables" in driver
    hidden = unread(facts, *_neutrons(facts))
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

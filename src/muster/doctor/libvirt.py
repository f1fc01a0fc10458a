"""libvirt's limits and what it does for each guest (R C5)."""

import os
from collections.abc import Callable, Iterable

from msgspec import Struct
from msgspec.structs import replace

from muster.doctor.facts import ABSENT, Facts, label_path
from muster.doctor.findings import Check, Plan, Result, Run, advice, good, not_known, problem
from muster.doctor.texts import for_people, libvirt_settings, whole_number

_FOLDER = "/etc/libvirt"
_KOLLA = "/etc/kolla/nova-libvirt"
_DAEMONS = ("virtqemud", "libvirtd")
_SOURCE = "R C5; libvirtd.conf: processing controls"
_SOCKETS = ("/run/libvirt", "/var/run/libvirt")
#: Threads of one QEMU: its processors, its I/O threads, and up to 64 of the pool that emulates asynchronous I/O.
TASKS_PER_GUEST = 72


class _Setup(Struct, frozen=True):
    """A daemon of libvirt and its two files; one that is absent says that all is the default.

    `name` tells it from others that run; `daemon` is that of its program.
    """

    name: str
    daemon: str
    own: str
    qemu: str


Settings = dict[str, str]


def _setups(facts: Facts) -> list[_Setup]:
    """The daemons that run; else the one that will, by Kolla's files, or by its file and its unit."""
    running = {process.configuration: process for process in facts.named(*_DAEMONS)}
    if running:
        return [_Setup(f"{one.name} {one.pid}", one.name, *files) for files, one in running.items()]
    if any(path in facts.files for path in (_KOLLA, f"{_KOLLA}/libvirtd.conf")):
        return [_Setup("libvirtd", "libvirtd", f"{_KOLLA}/libvirtd.conf", f"{_KOLLA}/qemu.conf")]
    there = [daemon for daemon in _DAEMONS if f"{_FOLDER}/{daemon}.conf" in facts.files]
    if f"{_FOLDER}/qemu.conf" in facts.files:
        there = there or list(_DAEMONS)
    started = [daemon for daemon in there if facts.at_boot(f"{daemon}.service")]
    chosen = (started or there)[:1]
    return [_Setup(one, one, f"{_FOLDER}/{one}.conf", f"{_FOLDER}/qemu.conf") for one in chosen]


def _settings(facts: Facts, path: str) -> Settings | list[Result]:
    reading = facts.files.get(path, facts.reading(os.path.dirname(path)))  # a folder is there when it cannot be read
    if reading.text is not None:
        return libvirt_settings(reading.text)
    return {} if reading.why == ABSENT else not_known(f"{path}: {reading.why}")


def _is_private(facts: Facts, setup: _Setup) -> bool:
    """Whether it has sockets of its own: then only who started it is its client, as Muster's agent is."""
    settings = _settings(facts, setup.own)
    return isinstance(settings, dict) and settings.get("unix_sock_dir", _SOCKETS[0]) not in _SOCKETS


def _of_each(judge: Callable[[Facts, Plan, _Setup], list[Result]]) -> Run:
    """What a check says of each daemon."""

    def run(facts: Facts, plan: Plan) -> Iterable[Result]:
        setups = _setups(facts)
        unread = facts.unread(_FOLDER)
        if not setups and (unread or facts.unseen):
            return not_known("; ".join(unread) or facts.unseen)
        if len(setups) == 1:
            return judge(facts, plan, setups[0])
        found = [(setup, one) for setup in setups for one in judge(facts, plan, setup)]
        return [replace(one, found=f"{setup.name}: {one.found}") for setup, one in found] or good(_NONE)

    return run


_NONE = "This host has no libvirt of its own to set up"


def _limit(name: str, default: int, too_low: int, better: int, *, is_of_clients: bool = False) -> Run:
    """A limit of the daemon: up to `too_low` is a problem, below `better` advice.

    `is_of_clients`: it is about several clients, and does not matter where there is one only.
    """

    def judge(facts: Facts, _: Plan, setup: _Setup) -> list[Result]:
        path = setup.own
        settings = _settings(facts, path)
        if isinstance(settings, list):
            return settings
        said = settings.get(name)
        value = default if said is None else whole_number(said)
        if value is None:
            return not_known(f"{path}: {name} is not a number")
        found = f"{name} = {value}{' (the default)' if said is None else ''} in {path}"
        if value >= better:
            return good(found)
        if is_of_clients and _is_private(facts, setup):
            return good(f"{found}; a daemon with one client, who started it")
        mend = f"{name} = {better} in {_where(path)}, then: {_restart(setup)}"
        return problem(found, mend) if value <= too_low else advice(found, mend)

    return _of_each(judge)


def _where(path: str) -> str:
    """Where somebody changes a file: Kolla writes its files anew from its role's templates, which nothing overrides."""
    kollas = f"roles/nova-cell/templates/{os.path.basename(path)}.j2 of kolla-ansible ({path})"
    return kollas if path.startswith(_KOLLA) else for_people(path)


def _restart(setup: _Setup) -> str:
    if setup.own.startswith(_KOLLA):
        return "kolla-ansible reconfigure"
    return "restart its container" if setup.own.startswith("/proc/") else f"systemctl restart {setup.daemon}"


def _max_requests(facts: Facts, _: Plan, setup: _Setup) -> list[Result]:
    settings = _settings(facts, setup.own)
    if isinstance(settings, list):
        return settings
    value = whole_number(settings.get("max_requests"))
    if value is not None and value <= 20:
        where = _where(setup.own)
        return advice(f"max_requests = {value} in {setup.own}", f"Delete the line, or max_requests = 200 in {where}")
    return good("max_requests is not limited")


def _of_qemu(judge: Callable[[Facts, Plan, Settings, str], list[Result]]) -> Run:
    """What a check says of the settings for guests of each daemon; it is given where they are to be changed."""

    def judged(facts: Facts, plan: Plan, setup: _Setup) -> list[Result]:
        settings = _settings(facts, setup.qemu)
        if isinstance(settings, list):
            return settings
        found = judge(facts, plan, settings, _where(setup.qemu))
        is_private = _is_private(facts, setup)
        return [replace(one, mend=_PRIVATE) if one.mend and is_private else one for one in found]

    return _of_each(judged)


_PRIVATE = (
    "This daemon's files are written anew by who starts it. Muster uses the machine's own libvirtd where that runs: "
    "start it before Muster, if this matters"
)


def _security_driver(facts: Facts, _: Plan, settings: Settings, where: str) -> list[Result]:
    driver = settings.get("security_driver", "").strip("[] ").replace('"', "")
    is_root = settings.get("user") in ("root", "+0")
    unconfined = "nothing confines QEMU, which runs as root" if is_root else "nothing but its user confines QEMU"
    if "none" in driver:
        return advice(
            f"security_driver = {driver}: guests start without relabelling, and {unconfined}",
            f"If guests are not trusted: delete the line in {where}; then restart the daemon",
        )
    if bare := _unconfined(facts):
        return advice(
            f"security_driver = {driver or 'the default'}, and nothing confines guests here, such as process {bare[0]}",
            "If guests are not trusted: libvirtd's log says why; in a container it does without the host's AppArmor",
        )
    if driver:
        return good(f"security_driver = {driver}: guests are confined; each start pays for its labels")
    modules = _security_modules(facts)
    if modules is None:
        return not_known("security_driver is the default, and what the kernel has for it cannot be seen")
    if not modules:
        return advice(
            f"security_driver is the default, and this kernel has neither SELinux nor AppArmor at work: {unconfined}",
            "If guests are not trusted: boot with security=apparmor apparmor=1, or with SELinux",
        )
    return good(
        f"security_driver is the default: {' and '.join(modules)} confines guests; each start pays for its labels"
    )


def _unconfined(facts: Facts) -> list[int]:
    """Guests that nothing confines by their labels; none where several daemons may have started them."""
    if len(_setups(facts)) > 1:
        return []
    labels = {process.pid: facts.text(label_path(process)) or "" for process in facts.named("qemu")}
    return [
        pid
        for pid, label in labels.items()
        if label.startswith("unconfined") or (":" in label and "svirt" not in label)  # AppArmor's, SELinux's
    ]


def _security_modules(facts: Facts) -> list[str] | None:
    """Those at work; libvirt takes the first of these that it was built with (qemu.conf: security_driver)."""
    selinux, apparmor = "/sys/fs/selinux/enforce", "/sys/module/apparmor/parameters/enabled"
    if {facts.reading(path).why for path in (selinux, apparmor)} - {"", ABSENT}:
        return None
    found = {"SELinux": facts.text(selinux) in ("0", "1"), "AppArmor": facts.text(apparmor) == "Y"}
    return [name for name, is_at_work in found.items() if is_at_work]


def _cgroup_controllers(_: Facts, __: Plan, settings: Settings, where: str) -> list[Result]:
    controllers = settings.get("cgroup_controllers")
    if controllers is None:
        return good("cgroup_controllers is the default: each guest gets a cgroup of all controllers")
    if not controllers.strip("[] \t"):
        return advice(
            "cgroup_controllers is empty: starts are quicker, and limits of CPU, memory and I/O for guests do not work",
            f"If flavors limit guests: delete the line in {where}",
        )
    return good(f"cgroup_controllers = {controllers}")


def _remember_owner(_: Facts, __: Plan, settings: Settings, where: str) -> list[Result]:
    if settings.get("dynamic_ownership") == "0" or settings.get("remember_owner") == "0":
        return good("Owners of images are not remembered")
    return advice(
        "remember_owner is on: each start locks the metadata of every file of the guest, one after the other",
        f"remember_owner = 0 in {where}, where only the cloud uses the images",
    )


def _per_process(name: str, needed: int) -> Run:
    """A limit of each QEMU, or of their user, that libvirt sets; none set is fine."""

    def judge(_: Facts, plan: Plan, settings: Settings, where: str) -> list[Result]:
        value = whole_number(settings.get(name))
        need = needed if name == "max_files" else needed * plan.guests
        if not value:
            return good(f"{name} is not set: libvirt's default")
        if value < need:
            return problem(f"{name} = {value}, and {plan.guests} guests need {need}", f"{name} = {need} in {where}")
        return good(f"{name} = {value}")

    return _of_qemu(judge)


CHECKS = (
    Check(
        id="libvirt.max-clients",
        what="Connections to libvirt",
        cost="More clients than that wait to be accepted; 20 was the limit that held up 40 guests in 2013",
        source=_SOURCE,
        run=_limit("max_clients", 5000, 20, 200, is_of_clients=True),
    ),
    Check(
        id="libvirt.max-workers",
        what="Calls that libvirt works on at once",
        cost="Starts beyond it queue, and so does every look at a guest behind them",
        source=_SOURCE,
        run=_limit("max_workers", 20, 5, 40, is_of_clients=True),
    ),
    Check(
        id="libvirt.prio-workers",
        what="Workers kept for calls that never wait",
        cost="With all workers stuck, a hanging guest cannot even be destroyed",
        source=_SOURCE,
        run=_limit("prio_workers", 5, 0, 5),
    ),
    Check(
        id="libvirt.max-client-requests",
        what="Calls of one connection at once",
        cost="nova-compute has one connection: it starts no more guests at once than that, and keepalives may time out",
        source=_SOURCE,
        run=_limit("max_client_requests", 5, 1, 20),
    ),
    Check(
        id="libvirt.max-requests",
        what="Calls of all connections at once, in old versions",
        cost="Bounds all clients together where libvirt still knows it",
        source="R C5",
        run=_of_each(_max_requests),
    ),
    Check(
        id="qemu.security-driver",
        what="Confinement of guests",
        cost="Labels are set under a lock at each start and stop; without them a guest that breaks out is QEMU's user",
        source="R C5; qemu.conf",
        run=_of_qemu(_security_driver),
    ),
    Check(
        id="qemu.cgroup-controllers",
        what="cgroups of guests",
        cost="Each start makes a cgroup in each hierarchy, under a lock of the kernel",
        source="R C5; qemu.conf",
        run=_of_qemu(_cgroup_controllers),
    ),
    Check(
        id="qemu.remember-owner",
        what="Remembered owners of images",
        cost="Lock and extended attributes per file and start",
        source="R C5; qemu.conf; libvirt NEWS, v5.6.0",
        run=_of_qemu(_remember_owner),
    ),
    Check(
        id="qemu.max-processes",
        what="Threads that QEMU's user may have",
        cost="QEMU dies, or does not start, when it cannot make a thread",
        source="qemu.conf; setrlimit(2), RLIMIT_NPROC",
        run=_per_process("max_processes", TASKS_PER_GUEST),
    ),
    Check(
        id="qemu.max-files",
        what="Files that one QEMU may have open",
        cost="Disks and network cards cannot be added to a guest",
        source="qemu.conf; setrlimit(2), RLIMIT_NOFILE",
        run=_per_process("max_files", 1024),
    ),
)

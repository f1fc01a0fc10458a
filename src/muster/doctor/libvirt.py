"""libvirt's limits and what it does for each guest (R C5)."""

from collections.abc import Iterable

from muster.doctor.facts import Facts, whole_number
from muster.doctor.findings import Check, Level, Plan, Result, Run, advice, good, not_known, problem
from muster.doctor.texts import libvirt_settings

_FOLDER = "/etc/libvirt"
_DAEMONS = ("virtqemud", "libvirtd")
_QEMU = f"{_FOLDER}/qemu.conf"
_SOURCE = "R C5; libvirtd.conf: processing controls"
#: Threads of one QEMU: its processors, its I/O threads, and up to 64 of the pool that emulates asynchronous I/O.
TASKS_PER_GUEST = 72


def _daemon_file(facts: Facts) -> str:
    """The file of the daemon that is used: the one that runs, else the one that is there."""
    running = [process.name for process in facts.named(*_DAEMONS)]
    for daemon in (*running, *_DAEMONS):
        if f"{_FOLDER}/{daemon}.conf" in facts.files:
            return f"{_FOLDER}/{daemon}.conf"
    return ""


def _absent(facts: Facts, path: str) -> list[Result]:
    if path and facts.reading(path).text is None and path in facts.files:
        return not_known(f"{path}: {facts.reading(path).why}")
    unread = facts.unread(_FOLDER)
    return not_known("; ".join(unread)) if unread else good("This host has no libvirt of its own to set up")


def _limit(name: str, default: int, too_low: int, better: int) -> Run:
    """A limit of the daemon: up to `too_low` is a problem, below `better` advice."""

    def run(facts: Facts, _: Plan) -> Iterable[Result]:
        path = _daemon_file(facts)
        text = facts.text(path)
        if text is None:
            return _absent(facts, path)
        said = libvirt_settings(text).get(name)
        value = default if said is None else whole_number(said)
        if value is None:
            return not_known(f"{path}: {name} is not a number")
        found = f"{name} = {value}{' (the default)' if said is None else ''} in {path}"
        mend = f"{name} = {better} in {path}, then: systemctl restart {path.rpartition('/')[2].removesuffix('.conf')}"
        if value <= too_low:
            return problem(found, mend)
        return good(found) if value >= better else advice(found, mend)

    return run


def _max_requests(facts: Facts, _: Plan) -> Iterable[Result]:
    path = _daemon_file(facts)
    text = facts.text(path)
    if text is None:
        return _absent(facts, path)
    value = whole_number(libvirt_settings(text).get("max_requests"))
    if value is not None and value <= 20:
        return advice(f"max_requests = {value} in {path}", f"Delete the line, or max_requests = 200 in {path}")
    return good("max_requests is not limited")


def _qemu(facts: Facts) -> dict[str, str] | list[Result]:
    text = facts.text(_QEMU)
    return libvirt_settings(text) if text is not None else _absent(facts, _QEMU)


def _security_driver(facts: Facts, _: Plan) -> Iterable[Result]:
    settings = _qemu(facts)
    if isinstance(settings, list):
        return settings
    driver = settings.get("security_driver", "")
    if "none" in driver:
        return advice(
            f"security_driver = {driver}: guests start without relabelling, and nothing but their user confines QEMU",
            f"If guests are not trusted: delete the line in {_QEMU}, then restart the daemon",
        )
    return good(f"security_driver = {driver or 'the default'}: guests are confined; each start pays for its labels")


def _cgroup_controllers(facts: Facts, _: Plan) -> Iterable[Result]:
    settings = _qemu(facts)
    if isinstance(settings, list):
        return settings
    controllers = settings.get("cgroup_controllers")
    if controllers is None:
        return good("cgroup_controllers is the default: each guest gets a cgroup of all controllers")
    if not controllers.strip("[] \t"):
        return advice(
            "cgroup_controllers is empty: starts are quicker, and limits of CPU, memory and I/O for guests do not work",
            f"If flavors limit guests: delete the line in {_QEMU}",
        )
    return good(f"cgroup_controllers = {controllers}")


def _remember_owner(facts: Facts, _: Plan) -> Iterable[Result]:
    settings = _qemu(facts)
    if isinstance(settings, list):
        return settings
    if settings.get("dynamic_ownership") == "0" or settings.get("remember_owner") == "0":
        return good("Owners of images are not remembered")
    return advice(
        "remember_owner is on: each start locks the metadata of every file of the guest, one after the other",
        f"remember_owner = 0 in {_QEMU}, where only the cloud uses the images",
    )


def _per_process(name: str, needed: int) -> Run:
    """A limit of each QEMU, or of their user, that libvirt sets; none set is fine."""

    def run(facts: Facts, plan: Plan) -> Iterable[Result]:
        settings = _qemu(facts)
        if isinstance(settings, list):
            return settings
        value = whole_number(settings.get(name))
        need = needed if name == "max_files" else needed * plan.guests
        if not value:
            return good(f"{name} is not set: libvirt's default")
        if value < need:
            return problem(f"{name} = {value}, and {plan.guests} guests need {need}", f"{name} = {need} in {_QEMU}")
        return [Result(level=Level.GOOD, found=f"{name} = {value}")]

    return run


CHECKS = (
    Check(
        id="libvirt.max-clients",
        what="Connections to libvirt",
        cost="More clients than that wait to be accepted; 20 was the limit that held up 40 guests in 2013",
        source=_SOURCE,
        run=_limit("max_clients", 5000, 20, 200),
    ),
    Check(
        id="libvirt.max-workers",
        what="Calls that libvirt works on at once",
        cost="Starts beyond it queue, and so does every look at a guest behind them",
        source=_SOURCE,
        run=_limit("max_workers", 20, 5, 40),
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
        run=_max_requests,
    ),
    Check(
        id="qemu.security-driver",
        what="Confinement of guests",
        cost="Labels are set under a lock at each start and stop; without them a guest that breaks out is QEMU's user",
        source="R C5; qemu.conf",
        run=_security_driver,
    ),
    Check(
        id="qemu.cgroup-controllers",
        what="cgroups of guests",
        cost="Each start makes a cgroup in each hierarchy, under a lock of the kernel",
        source="R C5; qemu.conf",
        run=_cgroup_controllers,
    ),
    Check(
        id="qemu.remember-owner",
        what="Remembered owners of images",
        cost="Lock and extended attributes per file and start",
        source="R C5; qemu.conf; libvirt NEWS, v5.6.0",
        run=_remember_owner,
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

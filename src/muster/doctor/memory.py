"""Memory, which decides how many guests a host can hold (R B2)."""

import contextlib
import tomllib
from collections.abc import Iterable

from muster.doctor.facts import MEMORY, Facts, cgroup_paths, meminfo, of_all_guests
from muster.doctor.findings import Check, Level, Plan, Result, advice, good, not_known, problem
from muster.doctor.openstack import computes, kind, settings_of, unread, where
from muster.doctor.texts import values

_PAGE_KIB = 4
_KSM = "/sys/kernel/mm/ksm"
_SLOW_S = 3600
_RAM_RATIO, _CPU_RATIO = 1.2, 2.0
_LEAST_RESERVED_MIB = 2048
_STRICT = 2
_GUEST_MIB = 512
_MIB = 1 << 20


def _ksm(facts: Facts, _: Plan) -> Iterable[Result]:
    run = facts.number(f"{_KSM}/run")
    pages, sleep_ms, ram_mib = (
        facts.number(f"{_KSM}/pages_to_scan"),
        facts.number(f"{_KSM}/sleep_millisecs"),
        facts.ram_mib(),
    )
    if run is None:
        why = facts.reading(f"{_KSM}/run").why
        return (
            advice("This kernel has no KSM", "A kernel with CONFIG_KSM")
            if why == "absent"
            else not_known(f"KSM: {why}")
        )
    if run != 1:
        return _ksm_off(facts, run)
    shared = facts.number(f"{_KSM}/pages_sharing") or 0
    found = f"KSM is on and saves {shared * _PAGE_KIB // 1024} MiB"
    if not pages or sleep_ms is None or ram_mib is None:
        return good(found)
    pass_s = ram_mib * 1024 // _PAGE_KIB / pages * sleep_ms / 1000
    if pass_s > _SLOW_S:
        better = int(pages * pass_s / 600)
        return advice(
            f"{found}; a look at all memory takes {pass_s / 60:.0f} minutes ({pages} pages every {sleep_ms} ms)",
            f"echo {better} > {_KSM}/pages_to_scan",
        )
    return good(f"{found}; a look at all memory takes {pass_s / 60:.0f} minutes")


def _ksm_off(facts: Facts, run: int) -> Iterable[Result]:
    """Where an agent of Muster's runs, KSM is its to switch: whoever does it by hand has it from then on."""
    modes = [*_muster_ksm_modes(facts)]
    if not modes:
        return advice(f"KSM is off (run = {run})", f"echo 1 > {_KSM}/run")
    if "off" in modes:
        return advice(
            f"KSM is off (run = {run}), and Muster's agent is told to leave it alone",
            "ksm = 'auto' below [host] in /etc/muster/host.toml, or muster up --ksm auto",
        )
    return good(f"KSM is off (run = {run}) until Muster's agent switches it on, which it does when memory gets scarce")


def _muster_ksm_modes(facts: Facts) -> Iterable[str]:
    """What each agent that is known of is told about KSM."""
    if "muster-host.service" in facts.units:
        for text in facts.below("/etc/muster").values():
            yield from _ksm_in(text)
    for process in facts.named("muster"):
        if "--libvirt" in process.argv:
            texts = [facts.text(path) or "" for path in process.configuration]
            said = values(process.argv, "--ksm") or [mode for text in texts for mode in _ksm_in(text)]
            yield said[-1] if said else "auto"


def _ksm_in(text: str) -> list[str]:
    with contextlib.suppress(tomllib.TOMLDecodeError, RecursionError):
        host = tomllib.loads(text).get("host", {})
        if isinstance(host, dict):
            return [str(host.get("ksm", "auto"))]
    return []


def _transparent(facts: Facts, _: Plan) -> Iterable[Result]:
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    text = facts.text(path)
    if text is None:
        return not_known(f"{path}: {facts.reading(path).why}")
    chosen = text.partition("[")[2].partition("]")[0]
    if chosen == "never":
        return advice("Transparent huge pages are off", f"echo madvise > {path}")
    if chosen in ("always", "madvise"):
        return good(f"Transparent huge pages: {chosen}")
    return not_known(f"{path}: none is chosen")


def _huge(facts: Facts, _: Plan) -> Iterable[Result]:
    found = meminfo(facts.text("/proc/meminfo") or "")
    total, free, size_kib = found.get("HugePages_Total"), found.get("HugePages_Free"), found.get("Hugepagesize")
    if total is None or free is None or size_kib is None:
        return not_known("/proc/meminfo says nothing of huge pages")
    if total and free == total:
        mib = total * size_kib // 1024
        return advice(
            f"{mib} MiB are set aside as huge pages, and none is used",
            "sysctl -w vm.nr_hugepages=0, if no flavor asks for them",
        )
    return good(f"{total - free} of {total} huge pages are used" if total else "No huge pages are set aside")


def _overcommit(facts: Facts, _: Plan) -> Iterable[Result]:
    mode, ratio = facts.sysctl("vm.overcommit_memory"), facts.sysctl("vm.overcommit_ratio")
    if mode is None:
        return not_known(facts.why_not_sysctl("vm.overcommit_memory"))
    if mode == _STRICT:
        return problem(
            f"vm.overcommit_memory = 2: at most {ratio} % of memory, and swap, can be promised to processes",
            "sysctl -w vm.overcommit_memory=0",
        )
    return good(f"vm.overcommit_memory = {mode}")


def _swap(facts: Facts, _: Plan) -> Iterable[Result]:
    found = meminfo(facts.text("/proc/meminfo") or "")
    total, free = found.get("SwapTotal"), found.get("SwapFree")
    if total is None or free is None:
        return not_known("/proc/meminfo says nothing of swap")
    if total == 0:
        return advice("There is no swap", "Some swap on a quick disk, if memory is overcommitted: mkswap, swapon")
    said = f"{(total - free) // 1024} of {total // 1024} MiB of swap are used"
    # What nobody has asked for since it was put there, in a small swap, is no want of memory.
    if free < total // 2 and total - free > found.get("MemAvailable", 0):
        return problem(f"{said}, and less memory is available", "Fewer guests, or more memory")
    return good(said)


def _none_of_nova(facts: Facts) -> list[Result]:
    hidden = _hidden(facts)
    return not_known("; ".join(hidden)) if hidden else good("No nova here; Muster reserves memory by itself")


def _hidden(facts: Facts) -> list[str]:
    return unread(facts, *(service for service in facts.services if kind(service) == "nova"))


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None and len(text) < 20 else None
    except ValueError:
        return None


def _reserved(facts: Facts, _: Plan) -> Iterable[Result]:
    return [one for service in computes(facts) for one in _reserved_by(facts, service)] or _none_of_nova(facts)


def _reserved_by(facts: Facts, service: str) -> list[Result]:
    said = settings_of(facts, service).get(("DEFAULT", "reserved_host_memory_mb"))
    value = _number(said.value if said is not None else "512")
    if value is None:
        return not_known("reserved_host_memory_mb is not a number")
    if said is None and (hidden := _hidden(facts)):
        return not_known("; ".join(hidden))
    found = f"reserved_host_memory_mb = {value:.0f}{' (the default)' if said is None else ''}"
    if value < _LEAST_RESERVED_MIB:
        return advice(found, f"reserved_host_memory_mb = {_LEAST_RESERVED_MIB} or more in {where(service)}")
    return good(found)


def _ratios(facts: Facts, _: Plan) -> Iterable[Result]:
    return [one for service in computes(facts) for one in _ratios_by(facts, service)] or _none_of_nova(facts)


def _ratios_by(facts: Facts, service: str) -> list[Result]:
    settings = settings_of(facts, service)
    hidden = _hidden(facts)
    found = not_known("; ".join(hidden)) if hidden else []
    for name, most in (("ram_allocation_ratio", _RAM_RATIO), ("cpu_allocation_ratio", _CPU_RATIO)):
        said = settings.get(("DEFAULT", name), settings.get(("DEFAULT", f"initial_{name}")))
        value = None if said is None else _number(said.value)
        if said is None:
            found += [] if hidden else _default_ratio(name, service)
        elif value is None:
            found += not_known(f"{name} is not a number")
        elif value > most:
            found += advice(f"{name} = {value}; up to {most} was safe", f"{name} = {most} in {where(service)}")
        else:
            found += good(f"{name} = {value}")
    return found


def _default_ratio(name: str, service: str) -> list[Result]:
    """Which it is depends on nova's version: of processors always more than was safe, of memory in older ones."""
    if name == "cpu_allocation_ratio":
        found = (
            f"{name} is not set here, so it is 4.0 (16.0 in older versions, such as 26); up to {_CPU_RATIO} was safe"
        )
        return advice(found, f"{name} = {_CPU_RATIO} in {where(service)}")
    found = f"{name} is not set here, so it is 1.0, or 1.5 in older versions, such as 26; up to {_RAM_RATIO} was safe"
    return [Result(level=Level.NOT_KNOWN, found=found, mend=f"{name} = {_RAM_RATIO} in {where(service)}")]


def _group(facts: Facts, plan: Plan) -> Iterable[Result]:
    """The lowest limit of memory on the way up from guests, or from what starts them."""
    daemons = [process.cgroup.text or "" for process in facts.named("libvirtd", "virtqemud")]
    ways = of_all_guests(facts, MEMORY) or [tuple(cgroup_paths(text, MEMORY)) for text in daemons]
    if not ways and facts.unseen:
        return not_known(facts.unseen)
    limits = [(number, path) for way in ways for path in way if (number := facts.number(path)) is not None]
    ram_mib = facts.ram_mib()
    if not limits or ram_mib is None or min(limits)[0] // _MIB >= ram_mib:
        return good("No group of guests has a limit of memory below the machine's" if ways else "No guests run here")
    lowest, path = min(limits)
    need_mib = int(plan.guests * _GUEST_MIB / _RAM_RATIO)
    found = f"Guests may use {lowest // _MIB} of the machine's {ram_mib} MiB, by {path}"
    if lowest // _MIB < need_mib:
        mend = "MemoryMax=infinity in the unit of that name, or fewer guests"
        return problem(f"{found}; {plan.guests} guests of {_GUEST_MIB} MiB at 1 : {_RAM_RATIO} need {need_mib}", mend)
    return good(found)


CHECKS = (
    Check(
        id="memory.group",
        what="Memory that the group of guests may use",
        cost="The kernel kills a guest when they all together have that much, however much is free",
        source="kernel documentation: cgroup-v2, memory.max",
        run=_group,
    ),
    Check(
        id="memory.ksm",
        what="Merging of equal pages (KSM)",
        cost="Equal guests hold their pages many times: fewer fit before the kernel kills one",
        source="R B2; kernel documentation: ksm",
        run=_ksm,
    ),
    Check(
        id="memory.transparent-huge-pages",
        what="Transparent huge pages",
        cost="More misses when guests' addresses are translated",
        source="kernel documentation: transhuge",
        run=_transparent,
    ),
    Check(
        id="memory.huge-pages",
        what="Huge pages set aside",
        cost="Memory that no ordinary guest can have, and that is neither merged nor swapped",
        source="kernel documentation: hugetlbpage",
        run=_huge,
    ),
    Check(
        id="memory.overcommit",
        what="How much memory the kernel promises",
        cost="QEMU does not start though memory is free",
        source="kernel documentation: overcommit-accounting",
        run=_overcommit,
    ),
    Check(
        id="memory.swap",
        what="Swap",
        cost="With overcommitted memory and no swap the kernel kills a guest at once when all want their memory",
        source="R B2",
        run=_swap,
    ),
    Check(
        id="memory.reserved",
        what="Memory that nova leaves to the host",
        cost="Each QEMU takes tens of MiB beside its guest; when they fill the host's part, the kernel kills a guest",
        source="R B2; nova: reserved_host_memory_mb, 512 by default",
        run=_reserved,
    ),
    Check(
        id="memory.ratios",
        what="nova's overcommit",
        cost="Beyond 1.2 for memory the kernel kills guests, even with KSM; beyond 2 for processors all get slow",
        source="R B2",
        run=_ratios,
    ),
)

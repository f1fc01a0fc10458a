"""The order of network, hypervisor and agents at boot, by systemd's units, of those that are started then (R B5)."""

import re
from collections.abc import Iterable

from muster.doctor.facts import Facts
from muster.doctor.findings import Check, Plan, Result, Run, advice, good, not_known, problem
from muster.doctor.texts import unit_settings

_SWITCH = ("openvswitch-switch.service", "openvswitch.service", "ovs-vswitchd.service")
_HYPERVISOR = ("libvirtd.service", "virtqemud.service")
_COMPUTE = ("nova-compute.service", "openstack-nova-compute.service", "devstack@n-cpu.service")
_AGENT = (
    "neutron-openvswitch-agent.service",
    "neutron-ovn-metadata-agent.service",
    "neutron-linuxbridge-agent.service",
    "neutron-dhcp-agent.service",
    "neutron-l3-agent.service",
)


def after(units: dict[str, str], name: str, started: frozenset[str] | None = None) -> set[str]:
    """All units that systemd starts before this one, directly or not: After= here, Before= there (systemd.unit(5)).

    A unit between two others orders them only if it is `started` as well; None: all are.
    """
    earlier: dict[str, set[str]] = {unit: set(unit_settings(text, "After")) for unit, text in units.items()}
    for unit, text in units.items():
        for later in unit_settings(text, "Before"):
            earlier.setdefault(later, set()).add(unit)
    found: set[str] = set()
    waiting = [name]
    while waiting:
        new = earlier.get(waiting.pop(), set()) - found
        found |= new
        waiting.extend(unit for unit in new if started is None or unit in started)
    return found


def _ordered(later: tuple[str, ...], sooner: tuple[str, ...], *, is_bad: bool, is_called: bool = False) -> Run:
    """Each unit of `later` that is there comes after those of `sooner` that are there.

    `is_called`: by its socket, if it has one, which is there before all services (systemd.special(7), sockets.target).
    """

    def run(facts: Facts, _: Plan) -> Iterable[Result]:
        first, last = facts.at_boot(*sooner), facts.at_boot(*later)
        if not first or not last:
            return good("Not both are started at boot")
        sockets = facts.at_boot(*(unit.replace(".service", ".socket") for unit in first))
        if is_called and facts.enabled is not None and len(sockets) == len(first):
            return good(f"{', '.join(last)} may call {', '.join(first)} by {', '.join(sockets)} from the start")
        wrong = [unit for unit in last if not after(facts.units, unit, facts.enabled) & set(first)]
        if not wrong:
            return good(f"{', '.join(last)} after {', '.join(first)}")
        is_indirect = all(after(facts.units, unit) & set(first) for unit in wrong)
        why = ": what stands between them is not started at boot" if is_indirect else ""
        found = f"{', '.join(wrong)} may start before {first[0]}{why}"
        mend = "\n".join(
            f"mkdir -p /etc/systemd/system/{unit}.d && printf '[Unit]\\nWants={first[0]}\\nAfter={first[0]}\\n' "
            f"> /etc/systemd/system/{unit}.d/order.conf && systemctl daemon-reload"
            for unit in wrong
        )
        return problem(found, mend) if is_bad else advice(found, mend)

    return run


def _muster_host(facts: Facts, _: Plan) -> Iterable[Result]:
    text = facts.units.get("muster-host.service")
    if text is None:
        return good("No muster-host.service here")
    wrong = []
    if "network-online.target" not in after(facts.units, "muster-host.service"):
        wrong.append("After=network-online.target")
    if "network-online.target" not in unit_settings(text, "Wants"):
        wrong.append("Wants=network-online.target")
    if unit_settings(text, "KillMode")[-1:] != ["process"]:
        wrong.append("KillMode=process")
    if wrong:
        found, mend = f"muster-host.service lacks {', '.join(wrong)}", "Take deploy/systemd/muster-host.service"
        return problem(found, mend) if "KillMode=process" in wrong else advice(found, mend)
    return good("muster-host.service waits for the network, and guests outlive its restart")


def _comes_back(facts: Facts, _: Plan) -> Iterable[Result]:
    """What runs by a unit must be started at boot, too."""
    if not facts.units:
        return good("There are no units of systemd here")
    if facts.enabled is None:
        return not_known("Which units are started at boot cannot be seen here")
    running = {unit_of(process.cgroup.text or "") for process in facts.processes} & facts.units.keys()
    lost = sorted(running - facts.enabled)
    if lost:
        return problem(f"{', '.join(lost)} runs, and is not enabled", f"systemctl enable {' '.join(lost)}")
    return good(f"{', '.join(sorted(running))} {'are' if len(running) > 1 else 'is'} enabled" if running else _NONE)


_NONE = "Nothing that matters here runs by a unit"


def unit_of(cgroup: str) -> str:
    """The service in whose cgroup a process is, by `/proc/PID/cgroup`; empty: none."""
    found = _UNIT.search(cgroup)
    return found[1] if found else ""


_UNIT = re.compile(r"^(?:0:|\d+:name=systemd):/system\.slice/([^/\n]+\.service)", re.MULTILINE)

_COST = "After a reboot ports are plugged before the switch is there, or its old records stay: guests without network"

CHECKS = (
    Check(
        id="boot.comes-back",
        what="What runs now is started at boot",
        cost="After a reboot it is not there: no guests, or guests without network",
        source="R B5; systemd.unit(5): [Install]",
        run=_comes_back,
    ),
    Check(
        id="boot.hypervisor-after-switch",
        what="libvirt starts after Open vSwitch",
        cost=_COST,
        source="R B5; systemd.unit(5)",
        run=_ordered(_HYPERVISOR, _SWITCH, is_bad=True),
    ),
    Check(
        id="boot.compute-after-hypervisor",
        what="nova-compute starts after libvirt",
        cost="It gives up, or resumes no guests, when libvirt does not answer yet",
        source="R B5; systemd.unit(5)",
        run=_ordered(_COMPUTE, _HYPERVISOR, is_bad=True, is_called=True),
    ),
    Check(
        id="boot.compute-after-switch",
        what="nova-compute starts after Open vSwitch",
        cost=_COST,
        source="R B5; systemd.unit(5)",
        run=_ordered(_COMPUTE, _SWITCH, is_bad=False),
    ),
    Check(
        id="boot.agent-after-switch",
        what="Neutron's agents start after Open vSwitch",
        cost="The agent finds no bridge and programs nothing until it is restarted",
        source="R B5; systemd.unit(5)",
        run=_ordered(_AGENT, _SWITCH, is_bad=True),
    ),
    Check(
        id="boot.muster-host",
        what="muster-host's unit",
        cost="The first tries fail and are repeated; without KillMode=process a restart of the agent kills all guests",
        source="R B5; deploy/systemd/muster-host.service",
        run=_muster_host,
    ),
)

"""All checks over one host's facts, the worst first."""

from muster.doctor import (
    boot_order,
    dnsmasq,
    in_force,
    known_bad,
    libvirt,
    limits,
    memory,
    messages,
    processor,
    rootwrap,
)
from muster.doctor.facts import Facts
from muster.doctor.findings import Check, Finding, Level, Plan

CHECKS: tuple[Check, ...] = (
    *processor.CHECKS,
    *memory.CHECKS,
    *limits.CHECKS,
    *libvirt.CHECKS,
    *known_bad.CHECKS,
    *dnsmasq.CHECKS,
    *boot_order.CHECKS,
    *messages.CHECKS,
    *rootwrap.CHECKS,
    *in_force.CHECKS,
)
_ORDER = list(Level)
_GUEST_MIB = 512
_OVERCOMMIT = 1.2


def planned_guests(facts: Facts) -> int:
    """How many guests of 512 MiB the memory is good for at 1 : 1.2 (R B2), when nobody says how many are planned.

    Not below the number of those that run.
    """
    return max(1, len(facts.named("qemu")), int((facts.ram_mib() or _GUEST_MIB) * _OVERCOMMIT / _GUEST_MIB))


def diagnose(facts: Facts, plan: Plan) -> list[Finding]:
    """What all checks say: problems, then advice, then what is not known, then what is good. Pure."""
    found = [
        Finding(
            check=check.id,
            level=result.level,
            what=check.what,
            found=result.found,
            cost=result.cost or check.cost,
            mend=result.mend,
            source=result.source or check.source,
            sysctls=result.sysctls,
        )
        for check in CHECKS
        for result in check.run(facts, plan)
    ]
    return sorted(found, key=lambda finding: _ORDER.index(finding.level))

"""Processors, KVM, pressure and time."""

import json
from collections.abc import Iterable

from muster.doctor.facts import ABSENT, NOT_COPIED, Facts
from muster.doctor.findings import Check, Plan, Result, advice, good, not_known, problem

_CLOCKS = "/sys/devices/system/clocksource/clocksource0"
_SLOW_CLOCKS = ("hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit")


def _virtualization(facts: Facts, _: Plan) -> Iterable[Result]:
    text = facts.text("/proc/cpuinfo")
    if text is None:
        return not_known(f"/proc/cpuinfo: {facts.reading('/proc/cpuinfo').why}")
    words = set(text.split())
    if "flags" not in words:
        return (
            not_known("/proc/cpuinfo has no flags of an x86 processor")
            if facts.kvm in (ABSENT, NOT_COPIED)
            else good("KVM is here")
        )
    loaded = {line.split()[0] for line in (facts.text("/proc/modules") or "").splitlines() if line.split()}
    has_module = "kvm" in loaded or any(
        facts.text(f"/sys/module/{name}/parameters/nested") for name in ("kvm_intel", "kvm_amd")
    )
    if not words & {"vmx", "svm"}:
        return problem(
            "The processor has neither vmx nor svm: guests are emulated",
            "Switch virtualization on in the firmware, or in the outer hypervisor",
        )
    if not has_module and facts.kvm in (ABSENT, NOT_COPIED):
        return problem(
            "The processor could, and the module kvm is not loaded", "modprobe kvm_intel || modprobe kvm_amd"
        )
    return good("The processor can, and the kernel has KVM")


def _kvm(facts: Facts, _: Plan) -> Iterable[Result]:
    if facts.kvm == "":
        return good("/dev/kvm opens")
    if facts.kvm == ABSENT:
        return problem("There is no /dev/kvm", "modprobe kvm_intel || modprobe kvm_amd")
    if facts.kvm == NOT_COPIED or ("denied" in facts.kvm and not facts.is_root):
        return not_known(f"/dev/kvm: {facts.kvm}")
    return problem(f"/dev/kvm does not open: {facts.kvm}", "ls -l /dev/kvm; usermod -aG kvm NAME for QEMU's user")


def _verdict(facts: Facts, _: Plan) -> Iterable[Result]:
    text = facts.verdict.text
    if text is None:
        why = facts.verdict.why
        return (
            good("Muster has not tried to boot a guest here yet")
            if why == ABSENT
            else not_known(f"Muster's probe: {why}")
        )
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        return not_known("What Muster's probe left cannot be understood")
    reason = str(said.get("reason", ""))[:300]
    if said.get("accelerator") == "kvm":
        return good(f"Muster's probe: KVM ({reason})")
    return problem(
        f"Muster's probe could not boot a guest by KVM, so guests are emulated: {reason}",
        "Mend KVM, then start muster again",
    )


def _nested(facts: Facts, _: Plan) -> Iterable[Result]:
    for module in ("kvm_intel", "kvm_amd"):
        value = facts.text(f"/sys/module/{module}/parameters/nested")
        if value is not None:
            return good(f"{module}: guests {'can' if value in ('Y', '1') else 'cannot'} have guests")
    why = facts.reading("/sys/module/kvm_intel/parameters/nested").why
    return good("No KVM module with that setting") if why == ABSENT else not_known(why)


def _governor(facts: Facts, _: Plan) -> Iterable[Result]:
    path = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
    value = facts.text(path)
    if value is None:
        why = facts.reading(path).why
        return good("The kernel does not set the frequency here") if why == ABSENT else not_known(f"{path}: {why}")
    if value in ("powersave", "conservative", "ondemand"):
        return advice(f"The governor is {value}", "cpupower frequency-set -g performance")
    return good(f"The governor is {value}")


def _pressure(facts: Facts, _: Plan) -> Iterable[Result]:
    missing = [name for name in ("cpu", "io", "memory") if facts.text(f"/proc/pressure/{name}") is None]
    why = {facts.reading(f"/proc/pressure/{name}").why for name in missing} - {ABSENT}
    if why:
        return not_known(f"/proc/pressure: {', '.join(sorted(why))}")
    if missing:
        return advice(
            f"No pressure information for {', '.join(missing)}", "Boot with psi=1, or a kernel with CONFIG_PSI"
        )
    return good("The kernel says how long processes wait for processor, memory and disk")


def _synchronised(facts: Facts, _: Plan) -> Iterable[Result]:
    if facts.clock_synchronised is None:
        return not_known("Whether the clock is synchronised cannot be seen here")
    if not facts.clock_synchronised:
        return problem(
            "The kernel says that its clock is not synchronised",
            "Install chrony, or timedatectl set-ntp true; where chrony runs, it tells the kernel only with rtcsync in "
            "chrony.conf",
        )
    return good("The clock is synchronised")


def _source(facts: Facts, _: Plan) -> Iterable[Result]:
    current = facts.text(f"{_CLOCKS}/current_clocksource")
    if current is None:
        return not_known(f"{_CLOCKS}/current_clocksource: {facts.reading(f'{_CLOCKS}/current_clocksource').why}")
    available = (facts.text(f"{_CLOCKS}/available_clocksource") or "").split()
    better = next((name for name in ("tsc", "kvm-clock") if name in available), "")
    if current in _SLOW_CLOCKS:
        mend = f"echo {better} > {_CLOCKS}/current_clocksource" if better else "See dmesg for why tsc was given up"
        return problem(f"The clock source is {current}", mend)
    return good(f"The clock source is {current}")


CHECKS = (
    Check(
        id="cpu.virtualization",
        what="Virtualization by the processor",
        cost="An emulated guest needs 5 to 7 processor seconds to boot, and as much more as 40 do it at once",
        source="measured under emulation; kernel documentation: kvm",
        run=_virtualization,
    ),
    Check(
        id="cpu.kvm-opens",
        what="Whether /dev/kvm opens",
        cost="Guests do not start, or are emulated",
        source="kernel documentation: kvm/api",
        run=_kvm,
    ),
    Check(
        id="cpu.muster-probe",
        what="Whether KVM really boots a guest",
        cost="Devices that open and boot nothing are found in virtual machines and containers: guests are emulated",
        source="docs/subsystems/hypervisor.md",
        run=_verdict,
    ),
    Check(
        id="cpu.nested",
        what="Guests within guests",
        cost="Guests that are hypervisors emulate theirs",
        source="kernel documentation: kvm/running-nested-guests",
        run=_nested,
    ),
    Check(
        id="cpu.governor",
        what="The processor's frequency",
        cost="Short work, which starting guests is, runs at the low frequency",
        source="kernel documentation: cpufreq governors",
        run=_governor,
    ),
    Check(
        id="cpu.pressure",
        what="Pressure information (PSI)",
        cost="How many guests may boot at once has to be guessed from their boot times",
        source="R B3; kernel documentation: psi",
        run=_pressure,
    ),
    Check(
        id="clock.synchronised",
        what="The clock",
        cost="Tokens and heartbeats are judged by time: hosts seem dead, tokens expired",
        source="adjtimex(2): TIME_ERROR",
        run=_synchronised,
    ),
    Check(
        id="clock.source",
        what="Where the kernel reads the time",
        cost="Each look at the clock, of host and guests, is a slow read from a device instead of nanoseconds",
        source="kernel documentation: timekeeping",
        run=_source,
    ),
)

"""The dnsmasq processes that run: to what they are bound, and what each lease costs (R B4, C9)."""

from collections.abc import Iterable

from muster.doctor.facts import Facts, Process
from muster.doctor.findings import Check, Plan, Result, advice, good, not_known, problem
from muster.doctor.texts import dnsmasq_options, leases_in, whole_number

_DEFAULT_LEASES = 1000
_MEASURED = "measured: 2,350 leases/s with --leasefile-ro, 510 with a lease file in memory, 212 with a script besides"

Options = dict[str, list[str]]


def _servers(facts: Facts) -> list[tuple[Process, Options]]:
    """Each dnsmasq that gives leases, with all of its options."""
    found = []
    for process in facts.named("dnsmasq"):
        texts = [facts.text(path) or "" for path in process.configuration]
        options = dnsmasq_options(process.argv, texts)
        if "dhcp-range" in options:
            found.append((process, options))
    return found


def _unread(facts: Facts) -> list[Result]:
    if facts.unseen:
        return not_known(facts.unseen)
    paths = [path for process in facts.named("dnsmasq") for path in process.configuration]
    why = [f"{path}: {facts.reading(path).why}" for path in paths if "denied" in facts.reading(path).why]
    return not_known("; ".join(sorted(set(why)))) if why else []


def _is_bound(options: Options) -> bool:
    """dnsmasq binds its DHCP socket to a device where it serves exactly one, which is there when it starts."""
    served = {name for value in options.get("interface", []) for name in value.split(",")} - {"lo"}
    not_for_leases = {name for value in options.get("no-dhcp-interface", []) for name in value.split(",")}
    named = served - not_for_leases
    return ("bind-interfaces" in options or "bind-dynamic" in options) and len(named) == 1 and "*" not in "".join(named)


def _bound(facts: Facts, _: Plan) -> Iterable[Result]:
    servers = _servers(facts)
    loose = [process for process, options in servers if not _is_bound(options)]
    if not loose:
        return _unread(facts) or good(f"{len(servers)} DHCP servers, each bound to its interface" if servers else _NONE)
    spaces = [process.network for process, _ in servers]
    shared = [process for process in loose if process.network == "" or spaces.count(process.network) > 1]
    pids = ", ".join(str(process.pid) for process in loose)
    found = f"dnsmasq {pids}: not bound to one interface; {len(servers)} DHCP servers run"
    mend = "Start it with --bind-dynamic --interface=NAME --except-interface=lo"
    if shared and len(servers) > 1:
        return problem(found, mend)
    alone = "" if len(servers) == 1 else ", each of these alone in its network namespace"
    return advice(found + alone, mend)


_NONE = "No dnsmasq gives leases here"


def _lease_max(facts: Facts, plan: Plan) -> Iterable[Result]:
    servers = _servers(facts)
    low = [
        (process.pid, most)
        for process, options in servers
        if (most := whole_number((options.get("dhcp-lease-max") or [""])[-1]) or _DEFAULT_LEASES)
        < _leases_needed(options, plan.guests)
    ]
    if low:
        said = ", ".join(f"dnsmasq {pid}: {most}" for pid, most in low)
        return problem(
            f"{said} leases at most, {plan.guests} guests planned", f"--dhcp-lease-max={max(65_535, plan.guests)}"
        )
    return _unread(facts) or good(
        f"{len(servers)} DHCP servers, leases enough for {plan.guests} guests" if servers else _NONE
    )


def _leases_needed(options: Options, guests: int) -> int:
    """No more than its networks have addresses: Neutron's servers are limited to that."""
    rooms = [leases_in(value) for value in options["dhcp-range"]]
    known = [room for room in rooms if room is not None]
    total = sum(known)
    return min(guests, total) if len(known) == len(rooms) and total else guests


def _lease_script(facts: Facts, _: Plan) -> Iterable[Result]:
    servers = _servers(facts)
    with_script = [
        process.pid for process, options in servers if "dhcp-script" in options or "dhcp-luascript" in options
    ]
    if with_script:
        return advice(
            f"dnsmasq {', '.join(map(str, with_script))}: a script runs for every lease",
            "Do without --dhcp-script, or make it a small native program",
        )
    return _unread(facts) or good("No script per lease" if servers else _NONE)


def _lease_file(facts: Facts, _: Plan) -> Iterable[Result]:
    servers = _servers(facts)
    writing = [process.pid for process, options in servers if "leasefile-ro" not in options]
    if writing:
        return advice(
            f"dnsmasq {', '.join(map(str, writing))}: the lease file is written anew at every lease",
            "--leasefile-ro where addresses are fixed by --dhcp-host or --dhcp-hostsdir",
        )
    return _unread(facts) or good("No lease file is written" if servers else _NONE)


CHECKS = (
    Check(
        id="dnsmasq.bound",
        what="DHCP servers bound to their interface",
        cost="The first request is a broadcast and works; the unicast renewal goes to the one started last, and fails",
        source="R B4; dnsmasq(8): --bind-interfaces",
        run=_bound,
    ),
    Check(
        id="dnsmasq.lease-max",
        what="Leases that a DHCP server may give",
        cost="Guests beyond it get no address",
        source="dnsmasq(8): --dhcp-lease-max, 1000 by default",
        run=_lease_max,
    ),
    Check(
        id="dnsmasq.lease-script",
        what="A process for every lease",
        cost="0.171 s per lease by a Python script, 0.0018 s in C (R C9); one at a time",
        source=f"R C9; {_MEASURED}",
        run=_lease_script,
    ),
    Check(
        id="dnsmasq.lease-file",
        what="The lease file",
        cost="Leases per second fall to a quarter or less",
        source=_MEASURED,
        run=_lease_file,
    ),
)

"""2,000 guests' DHCP against the real dnsmasq as the host agent sets it up: leases, renewals by unicast, then pings.

Real bridges, taps, rules and servers; only the guests are played, by one process that has all taps open. Each guest has
a tap, MAC and address of its own, and all networks have the same subnet.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.apart import apart
from benchmarks.dhcp_host import Measured, Order, Phase, Way
from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.progress import Teller
from muster.bench.figures import spread

YARDSTICK = "the same dnsmasq with the same entries, by hand: no rules, no agent, no log, and ports isolated"
LIMIT_S = 300
# Bridges by hand, where each request is copied to each port, take too long for more than one round.
IN_TURN = (Way.AGENT, Way.APART)
_NEIGHBOURS = Path("/proc/sys/net/ipv4/neigh/default")


class Sizes(msgspec.Struct, frozen=True):
    """Guests on each of so many networks; so many wait for an answer at a time; rounds of Muster and the yardstick."""

    networks: int = 2
    guests: int = 1_000
    window: int = 64
    rounds: int = 3


QUICK = Sizes(guests=15, window=8, rounds=1)


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole benchmark. Raises Unsupported unless root."""
    began, where, sizes = time.monotonic(), machine(), QUICK if quick else Sizes()
    found: dict[Way, list[Measured]] = {way: [] for way in Way}
    with (
        neighbours_for(sizes.networks * sizes.guests),
        teller.steps(f"{sizes.networks * sizes.guests} guests", sizes.rounds * len(IN_TURN) + 1) as step,
    ):
        for way in (*IN_TURN * sizes.rounds, Way.HAND):
            found[way].append(await one(way, sizes))
            step()
    return Outcome(
        name="dhcp",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=[_rates(found), _costs(found), _until_served(found)],
        aims=_aims(found, sizes.networks * sizes.guests),
        notes=[_once(found)],
    )


async def one(way: Way, sizes: Sizes) -> Measured:
    """One round. Raises Transient when it fails, Unsupported unless root."""
    order = Order(
        way=way, networks=sizes.networks, guests=sizes.guests, window=sizes.window, at_once=way is not Way.HAND
    )
    return await apart("benchmarks.dhcp_host", order, Measured, limit_s=LIMIT_S)


@contextmanager
def neighbours_for(guests: int) -> Iterator[None]:
    """Room for so many guests in the machine's neighbour table, which all namespaces share; put back at the end."""
    needed = {"gc_thresh3": 4 * guests, "gc_thresh2": 2 * guests, "gc_thresh1": guests + 100}
    before = {name: (_NEIGHBOURS / name).read_text().strip() for name in needed}
    raised = {name: str(value) for name, value in needed.items() if guests > 500 and int(before[name]) < value}
    try:
        for name, value in raised.items():
            (_NEIGHBOURS / name).write_text(value)
        yield
    finally:
        # The kernel forgets a network some time after its end; a table that is full then would hit others' networks.
        until = time.monotonic() + 20
        while raised and _neighbours() > int(before["gc_thresh2"]) and time.monotonic() < until:
            time.sleep(0.1)
        for name in reversed(raised):
            (_NEIGHBOURS / name).write_text(before[name])


def _neighbours() -> int:
    """Entries of the machine's table, those of all namespaces."""
    return int(Path("/proc/net/stat/arp_cache").read_text().splitlines()[1].split()[0], 16)


def _rate(phase: Phase) -> float:
    return phase.work.done / phase.work.duration_s


def _rates(found: dict[Way, list[Measured]]) -> Grid:
    rows: list[list[str | float]] = []
    for way, rounds in found.items():
        waits = spread([s for one in rounds for s in one.lease.work.latencies_s])
        rows.append(
            [
                way.value,
                median(_rate(one.lease) for one in rounds),
                min(_rate(one.lease) for one in rounds),
                1e3 * waits.p50_s if waits else 0.0,
                1e3 * waits.p99_s if waits else 0.0,
                median(_rate(one.renew) for one in rounds),
                sum(one.lease.work.again + one.renew.work.again for one in rounds),
                median(one.pinged / one.ping_s for one in rounds),
            ]
        )
    columns = ["set up", "leases/s", "worst", "p50 ms", "p99 ms", "renewals/s", "asked again", "pings/s"]
    return Grid("leases (DISCOVER to ACK), renewals by unicast, pings answered", columns, rows)


def _costs(found: dict[Way, list[Measured]]) -> Grid:
    rows: list[list[str | float]] = []
    for way, rounds in found.items():
        for what, phases in (("lease", [m.lease for m in rounds]), ("renewal", [m.renew for m in rounds])):
            done = sum(phase.work.done for phase in phases) or 1
            rows.append(
                [
                    f"{way.value}: {what}",
                    1e6 * sum(phase.servers_cpu_s for phase in phases) / done,
                    1e6 * sum(phase.agent_cpu_s for phase in phases) / done,
                    1e6 * sum(phase.work.cpu_s for phase in phases) / done,
                ]
            )
    return Grid("CPU microseconds each", ["", "dnsmasq", "agent", "who plays the guests, bridge included"], rows)


def _until_served(found: dict[Way, list[Measured]]) -> Grid:
    rows: list[list[str | float]] = []
    for way, rounds in found.items():
        rows += [[f"{way.value}: {what}", median(m.made_s[what] for m in rounds)] for what in rounds[0].made_s]
    return Grid("from nothing until all are served, in one batch", ["step", "seconds"], rows)


def _aims(found: dict[Way, list[Measured]], guests: int) -> list[Aim]:
    ours = found[Way.AGENT]
    phases = [phase for one in ours for phase in (one.lease, one.renew, one.at_once) if phase is not None]
    ratio = median(_rate(m.lease) for m in ours) / median(_rate(m.lease) for m in found[Way.APART])
    return [
        Aim(
            what="share of guests with a lease, a renewal and a ping, in every round",
            value=min(*(p.work.done for p in phases), *(m.pinged for m in ours)) / guests,
            at_least=1,
            exact=True,
        ),
        Aim(
            what="share of guests that have an address of their own",
            value=min(phase.work.addresses for phase in phases) / guests,
            at_least=1,
            exact=True,
        ),
        Aim(
            what="answers of a wrong kind, address or server",
            value=sum(phase.work.wrong for phase in phases),
            at_most=0,
            exact=True,
        ),
        Aim(what="leases/s", value=median(_rate(m.lease) for m in ours), at_least=2_000),
        Aim(
            what="requests that had to be repeated",
            value=sum(p.work.again for m in ours for p in (m.lease, m.renew)),
            at_most=0,
        ),
        Aim(what="rate of leases against the yardstick's", value=ratio, at_least=0.8),
    ]


def _once(found: dict[Way, list[Measured]]) -> str:
    """What happens when nobody waits for anybody."""
    parts = []
    for way in IN_TURN:
        works = [one.at_once.work for one in found[way] if one.at_once is not None]
        again = median(work.again for work in works)
        longest = median(max(work.latencies_s, default=0.0) for work in works)
        parts.append(f"{way.value} {again:.0f} asked again, the last had its lease after {longest:.2f} s")
    return f"all guests in the same instant: {'; '.join(parts)}"

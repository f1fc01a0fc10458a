"""What a change of the host's network costs with 10, 100 and 960 ports, and what its rules cost a packet."""

import time
from collections import defaultdict
from statistics import median

from benchmarks.apart import apart
from benchmarks.firewall_host import Level, Order
from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.progress import Teller

YARDSTICK = "the same on a host with 10 ports, in turn with the others"
LIMIT_S = 400
MOST_GROWTH = 1.3
# What may not grow: everything but the kernel's own work with links.
FLAT = ("add a port: firewall", "add a port: DHCP", "change a rule", "a member joins a remote group")


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole benchmark. Raises Unsupported unless root."""
    began, where = time.monotonic(), machine()
    ports, times, packets = ((3, 6), 2, 200) if quick else ((10, 100, 960), 25, 20_000)
    teller.says(f"{', '.join(map(str, ports))} ports, {times} changes of each kind, {packets} packets")
    order = Order(ports=ports, times=times, packets=packets)
    levels = await apart("benchmarks.firewall_host", order, list[Level], limit_s=LIMIT_S)
    return Outcome(
        name="firewall",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=[_changes(levels), _counts(levels), _packets(levels)],
        aims=_aims(levels),
    )


def _changes(levels: list[Level]) -> Grid:
    first = _first(levels)
    rows: list[list[str | float]] = []
    for number, cost in enumerate(levels[0].costs):
        rows.append([cost.change, *(1e3 * median(level.costs[number].wall_s) for level in levels)])
        ratios = [1e6 * low(level.costs[number].cpu_s) for level in levels]
        rows.append(["  CPU microseconds", *ratios])
        rows.append(["  times that with the fewest", *(value / (1e6 * first[cost.change]) for value in ratios)])
    return Grid("milliseconds by number of ports", ["one change", *(f"{level.ports:,}" for level in levels)], rows)


def _counts(levels: list[Level]) -> Grid:
    most = max(levels, key=lambda level: level.ports)
    rows: list[list[str | float]] = []
    for cost in (most.built, *most.costs):
        times = len(cost.wall_s)
        rows.append([cost.change, cost.transactions / times, cost.sends / times, float(cost.processes)])
    columns = ["one change", "nft transactions", "netlink sends", "processes started, in all"]
    return Grid(
        f"what a change takes, with {most.ports:,} ports (a batch starts the network's DHCP server)", columns, rows
    )


def _packets(levels: list[Level]) -> Grid:
    rows: list[list[str | float]] = []
    for path in levels[0].packet_s:
        used = [low(level.packet_s[path]) for level in levels]
        rows.append([f"{path}: CPU microseconds", *(1e6 * seconds for seconds in used)])
        rows.append([f"{path}: packets/s of one core", *(1 / seconds for seconds in used)])
    return Grid("a packet from guest to guest", ["", *(f"{level.ports:,}" for level in levels)], rows)


def _aims(levels: list[Level]) -> list[Aim]:
    most = max(levels, key=lambda level: level.ports)
    first = _first(levels)
    aims = [
        Aim(
            what="processes started by changes of ports, rules and members",
            value=sum(cost.processes for level in levels for cost in level.costs),
            at_most=0,
            exact=True,
        ),
        Aim(
            what="nft transactions per change, a port with all its steps",
            value=max(_transactions(level) for level in levels),
            at_most=1,
            exact=True,
        ),
    ]
    for cost in most.costs:
        if cost.change in FLAT:
            ratio = low(cost.cpu_s) / first[cost.change]
            aims.append(Aim(what=f"{cost.change}, {most.ports:,} ports: CPU", value=ratio, at_most=MOST_GROWTH))
    packet = low(most.packet_s["allowed"]) / low(levels[0].packet_s["allowed"])
    return [*aims, Aim(what=f"a packet, {most.ports:,} ports: CPU", value=packet, at_most=MOST_GROWTH)]


def _transactions(level: Level) -> float:
    """The most that a change took; what is done for a new port, step by step, is one change."""
    found: defaultdict[str, float] = defaultdict(float)
    for cost in level.costs:
        found[cost.change.partition(":")[0]] += cost.transactions / len(cost.wall_s)
    return max(found.values())


def low(values: list[float]) -> float:
    """The lower quartile of CPU times: what others on the machine add by emptying caches is mostly left out."""
    return sorted(values)[len(values) // 4]


def _first(levels: list[Level]) -> dict[str, float]:
    """CPU seconds of each change with the fewest ports."""
    return {cost.change: low(cost.cpu_s) for cost in levels[0].costs}

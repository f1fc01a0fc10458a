"""What a change of the host's network costs with 10, 100 and 960 ports, and what its rules cost a packet."""

import time
from statistics import median

from benchmarks.apart import apart
from benchmarks.firewall_host import Level, Order
from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.progress import Teller

YARDSTICK = "the same changes and packets with 10 ports, before and after, in the same run"
LIMIT_S = 400
MOST_GROWTH = 1.3
# What may not grow: everything but the kernel's own work with links.
FLAT = ("add a port: firewall", "add a port: DHCP", "change a rule", "a member joins a remote group")


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole benchmark. Raises Unsupported unless root."""
    began, where = time.monotonic(), machine()
    ports, times, packets = ((3, 6, 3), 2, 200) if quick else ((10, 100, 960, 10), 25, 20_000)
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
        ratios = [1e6 * median(level.costs[number].cpu_s) for level in levels]
        rows.append(["  CPU microseconds", *ratios])
        rows.append(["  times that with the fewest", *(value / (1e6 * first[cost.change]) for value in ratios)])
    return Grid("milliseconds by number of ports", ["one change", *(f"{level.ports:,}" for level in levels)], rows)


def _counts(levels: list[Level]) -> Grid:
    most = max(levels, key=lambda level: level.ports)
    rows: list[list[str | float]] = [[c.change, c.transactions, c.sends, float(c.processes)] for c in most.costs]
    columns = ["one change", "nft transactions", "netlink sends", "processes started, in all"]
    return Grid(f"what a change takes, with {most.ports:,} ports", columns, rows)


def _packets(levels: list[Level]) -> Grid:
    rows: list[list[str | float]] = []
    for path in levels[0].packet_s:
        used = [median(level.packet_s[path]) for level in levels]
        rows.append([f"{path}: CPU microseconds", *(1e6 * seconds for seconds in used)])
        rows.append([f"{path}: packets/s of one core", *(1 / seconds for seconds in used)])
    return Grid("a packet from guest to guest", ["", *(f"{level.ports:,}" for level in levels)], rows)


def _aims(levels: list[Level]) -> list[Aim]:
    most = max(levels, key=lambda level: level.ports)
    first = _first(levels)
    few = min(median(level.packet_s["allowed"]) for level in levels if level.ports == levels[0].ports)
    aims = [
        Aim(
            what="processes started by changes of ports, rules and members",
            value=sum(cost.processes for level in levels for cost in level.costs),
            at_most=0,
            exact=True,
        ),
        Aim(
            what="nft transactions per change, without the one that shuts a new tap",
            value=max(c.transactions for level in levels for c in level.costs if c.change != "add a port: links"),
            at_most=1,
            exact=True,
        ),
    ]
    for cost in most.costs:
        if cost.change in FLAT:
            ratio = median(cost.cpu_s) / first[cost.change]
            aims.append(Aim(what=f"{cost.change}, {most.ports:,} ports: CPU", value=ratio, at_most=MOST_GROWTH))
    packet = median(most.packet_s["allowed"]) / few
    return [*aims, Aim(what=f"a packet, {most.ports:,} ports: CPU", value=packet, at_most=MOST_GROWTH)]


def _first(levels: list[Level]) -> dict[str, float]:
    """CPU seconds of each change with the fewest ports: the mean of before and after."""
    few = [level for level in levels if level.ports == levels[0].ports]
    return {
        cost.change: sum(median(level.costs[number].cpu_s) for level in few) / len(few)
        for number, cost in enumerate(few[0].costs)
    }

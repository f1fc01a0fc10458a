"""2,000 servers by 2,000 requests at once on 500 simulated hosts, until all are ACTIVE; 20 times in a row on one cloud.

Beside it: a subnet with exactly as many free addresses as servers, and one request for all of them.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from statistics import median

import msgspec

from benchmarks.floor import Floor
from benchmarks.inspection import Inspection, Need
from benchmarks.load import burst, post
from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.progress import Teller
from benchmarks.stage import Stage, a_cloud, the_floor
from muster.bench.options import Phase, ServersOptions
from muster.bench.records import Figure, ServersResult
from muster.bench.run import run_servers
from muster.client.http import HttpClient
from muster.domain.flavors import DEFAULT_FLAVORS

FLAVOR = "m1.tiny"
YARDSTICK = (
    "the floor: bare HTTP and one insert per request in the same stack, same client, not waiting for the disk "
    "(benchmarks/floor.py); measured between the rounds"
)


class Sizes(msgspec.Struct, frozen=True):
    """How much of it."""

    servers: int = 2_000
    hosts: int = 500
    rounds: int = 20
    exact_rounds: int = 2
    floor_every: int = 5


QUICK = Sizes(servers=60, hosts=10, rounds=1, exact_rounds=2, floor_every=1)


class Floors:
    """The bare servers, up for as long as the benchmark, and the rates they reached."""

    def __init__(self, urls: dict[Floor, str], client: HttpClient, size: int) -> None:
        self._urls = urls
        self._client = client
        self._size = size
        self.rates: dict[Floor, list[float]] = {kind: [] for kind in Floor}

    async def measure(self, *kinds: Floor) -> None:
        """The same number of requests, as large as Muster's, at each of these floors."""
        server = {"imageRef": "0" * 36, "flavorRef": "1", "networks": [{"uuid": "0" * 36}]}
        for kind in kinds:
            bodies = [{"server": {**server, "name": f"floor-{index:05d}"}} for index in range(self._size)]
            url = self._urls[kind] + "/servers"
            made = await burst(self._client, [post(url, body, "0" * 200) for body in bodies])
            self.rates[kind].append(made.per_s(202))


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole benchmark."""
    began, where, sizes = time.monotonic(), machine(), QUICK if quick else Sizes()
    tiny = next(flavor for flavor in DEFAULT_FLAVORS if flavor.name == FLAVOR)
    inspection = Inspection(Need(ram_mib=tiny.ram_mib, vcpus=tiny.vcpus))
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(a_cloud(sizes.hosts))
        urls = {kind: (await stack.enter_async_context(the_floor(kind))).base_url for kind in Floor}
        floors = Floors(urls, stage.client, sizes.servers)
        bench = _Rounds(stage, sizes, inspection, teller)
        await floors.measure(*Floor)
        singles = await bench.rounds("rounds", sizes.rounds, between=lambda: floors.measure(Floor.UNSAFE))
        await floors.measure(Floor.BATCHED)
        exact = await bench.exactly_enough_addresses()
        batch = await bench.rounds("one request for all", 1, batch=True)
    groups = {"single requests": singles, "exactly as many addresses": exact, "one request": batch}
    return Outcome(
        name="servers",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=[_rounds_grid(groups, sizes), _floors_grid(floors, singles)],
        aims=_aims(groups, floors, inspection),
        notes=[f"at most {inspection.most_on_a_host} servers on a host", *_faults(groups)],
    )


class _Rounds:
    """Rounds of create, look, delete on one cloud."""

    def __init__(self, stage: Stage, sizes: Sizes, inspection: Inspection, teller: Teller) -> None:
        self._stage = stage
        self._sizes = sizes
        self._inspection = inspection
        self._teller = teller

    async def rounds(
        self,
        what: str,
        count: int,
        *,
        network: str = "default",
        batch: bool = False,
        between: Callable[[], Awaitable[None]] | None = None,
    ) -> list[ServersResult]:
        """So many rounds in a row; `between` is called after every `floor_every`th."""
        options = ServersOptions(
            count=self._sizes.servers,
            phases=(Phase.CREATE, Phase.DELETE),
            flavor=FLAVOR,
            network=network,
            batch=batch,
            cloud="muster",
            config_files=(str(self._stage.process.clouds_yaml),),
        )
        results = []
        with self._teller.steps(f"{what}: {self._sizes.servers} servers each", count) as step:
            for number in range(1, count + 1):
                results.append(await run_servers(options, inspect=self._inspection.look))
                if between is not None and number % self._sizes.floor_every == 0:
                    await between()
                step()
        return results

    async def exactly_enough_addresses(self) -> list[ServersResult]:
        """Rounds on a network that has not one address more; the second takes what the first has just released."""
        network_id = await self._stage.network("exact", self._sizes.servers)
        results = await self.rounds("exactly as many addresses", self._sizes.exact_rounds, network=network_id)
        await self._stage.drop_network(network_id)
        return results


def _figure(result: ServersResult, name: str) -> Figure:
    return next(figure for figure in result.figures if figure.name == name)


def _rate(results: list[ServersResult]) -> float:
    return median(_figure(result, "create").per_s or 0.0 for result in results)


def _p99(results: list[ServersResult]) -> list[float]:
    spreads = [_figure(result, "POST accepted").spread for result in results]
    return sorted(spread.p99_s if spread else float("inf") for spread in spreads)


def _rounds_grid(groups: dict[str, list[ServersResult]], sizes: Sizes) -> Grid:
    rows: list[list[str | float]] = []
    for name, results in groups.items():
        active = sum(_figure(result, "create").ok for result in results)
        rates = [_figure(result, "create").per_s or 0.0 for result in results]
        p99 = _p99(results)
        gone = median(_figure(result, "delete").per_s or 0.0 for result in results)
        rows.append([name, len(results), active, median(rates), min(rates), max(rates), median(p99), p99[-1], gone])
    columns = ["", "rounds", "ACTIVE", "per s", "worst", "best", "POST p99 s", "worst", "deleted per s"]
    return Grid(f"{sizes.servers:,} servers at once on {sizes.hosts} simulated hosts, to ACTIVE", columns, rows)


def _floors_grid(floors: Floors, singles: list[ServersResult]) -> Grid:
    said = {
        Floor.DURABLE: "one durable transaction per request",
        Floor.UNSAFE: "one transaction per request, not waiting for the disk",
        Floor.BATCHED: "inserts in batches, durable",
    }
    rows: list[list[str | float]] = [
        [said[kind], len(rates), median(rates), _rate(singles) / median(rates)] for kind, rates in floors.rates.items()
    ]
    return Grid("the floors", ["", "times", "per s", "Muster's part of it"], rows)


def _aims(groups: dict[str, list[ServersResult]], floors: Floors, inspection: Inspection) -> list[Aim]:
    every = [result for results in groups.values() for result in results]
    lost = sum(_figure(result, "create").total - _figure(result, "create").ok for result in every)
    errors = sum(sum(result.traffic.errors.values()) for result in every)
    retries = sum(sum(result.traffic.retries.values()) for result in every)
    left = sum(len(result.leftovers) for result in every)
    singles = groups["single requests"]
    ratio = _rate(singles) / median(floors.rates[Floor.UNSAFE])
    return [
        Aim(
            what="servers that did not become ACTIVE, all rounds",
            value=lost + inspection.not_active,
            at_most=0,
            exact=True,
        ),
        Aim(what="errors", value=errors, at_most=0, exact=True),
        Aim(what="retries", value=retries, at_most=0, exact=True),
        Aim(what="addresses given twice", value=inspection.shared_addresses, at_most=0, exact=True),
        Aim(what="hosts beyond their capacity", value=inspection.overfull_hosts, at_most=0, exact=True),
        Aim(
            what="servers lost from the listing, or left behind", value=inspection.missing + left, at_most=0, exact=True
        ),
        Aim(what="servers per second to ACTIVE (median round)", value=_rate(singles), at_least=300),
        Aim(what="of the floor's rate", value=ratio, at_least=0.4),
        Aim(what="p99 of the POST in seconds (median round)", value=median(_p99(singles)), at_most=2.0),
    ]


def _faults(groups: dict[str, list[ServersResult]]) -> list[str]:
    found = {fault.text: fault.servers for results in groups.values() for one in results for fault in one.faults}
    return [f"{servers} servers: {text}" for text, servers in found.items()]

"""What the control plane weighs: its memory after the start and with servers, and what starting it takes."""

import asyncio
import sys
import time
from statistics import median

import msgspec

from benchmarks.floor import Floor
from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.process import Memory, memory
from benchmarks.progress import Teller
from benchmarks.stage import Stage, a_cloud, the_floor
from muster.bench.options import Phase, ServersOptions
from muster.bench.run import run_servers

YARDSTICK = "the floor's process (bare HTTP and SQLAlchemy in the same stack, benchmarks/floor.py), and its start"
# Heavy packages that a running cloud has no use for.
UNWANTED = ("matplotlib", "openstack", "keystoneauth1", "numpy", "httpx", "libvirt", "pyroute2", "rich", "pygments")
MOST_MIB = 150


class Sizes(msgspec.Struct, frozen=True):
    """How many servers and hosts; how often a start is timed; in how many seconds what a burst leaves is given back."""

    servers: int = 2_000
    hosts: int = 500
    starts: int = 5
    rest_s: float = 65.0


QUICK = Sizes(servers=50, hosts=10, starts=1, rest_s=0.0)


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole benchmark."""
    began, where, sizes = time.monotonic(), machine(), QUICK if quick else Sizes()
    held: dict[str, Memory] = {}
    with teller.steps("starts", 2 * sizes.starts) as step:
        starts: dict[str, list[float]] = {"the floor": [], "muster up": []}
        for _ in range(sizes.starts):
            starts["the floor"].append(await _start_s("import benchmarks.floor"))
            step()
            starts["muster up"].append(await _start_s("import muster.cli.up"))
            step()
    unwanted = await _imported()
    async with the_floor(Floor.DURABLE) as floor, a_cloud(sizes.hosts) as stage:
        held["the floor, after its start"] = memory(floor.pid)
        held[f"after the start, {sizes.hosts} simulated hosts"] = memory(stage.process.pid)
        teller.says(f"{sizes.servers} servers")
        await _create(stage, sizes, keep=True)
        held[f"with {sizes.servers:,} servers"] = memory(stage.process.pid)
        await _create(stage, sizes, keep=False)
        held[f"after {sizes.servers:,} more came and went"] = memory(stage.process.pid)
        teller.says("what is left a minute later")
        await asyncio.sleep(sizes.rest_s)
        held["a minute later"] = memory(stage.process.pid)
    ours = list(held.values())[1:]
    return Outcome(
        name="idle",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=[_memory_grid(held), _start_grid(starts)],
        aims=[
            Aim(what="heavy packages that `muster up` imports for nothing", value=len(unwanted), at_most=0, exact=True),
            Aim(what="MiB resident after the start", value=ours[0].rss, at_most=MOST_MIB),
            Aim(what=f"MiB resident with {sizes.servers:,} servers", value=ours[1].rss, at_most=MOST_MIB),
        ],
        notes=[f"imported for nothing: {', '.join(unwanted)}"] if unwanted else [],
    )


async def _create(stage: Stage, sizes: Sizes, *, keep: bool) -> None:
    phases = (Phase.CREATE,) if keep else (Phase.CREATE, Phase.DELETE)
    files = (str(stage.process.clouds_yaml),)
    options = ServersOptions(
        count=sizes.servers, phases=phases, keep=keep, flavor="m1.tiny", cloud="muster", config_files=files
    )
    await run_servers(options)


async def _python(code: str) -> str:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode()


async def _start_s(code: str) -> float:
    """How long an interpreter takes to import this."""
    began = time.monotonic()
    await _python(code)
    return time.monotonic() - began


async def _imported() -> list[str]:
    """Which unwanted packages are there once `muster up` is imported."""
    return (await _python(f"import sys, muster.cli.up; print(*(set({UNWANTED}) & set(sys.modules)))")).split()


def _memory_grid(held: dict[str, Memory]) -> Grid:
    first = next(iter(held.values()))
    rows: list[list[str | float]] = [
        [name, now.rss, now.pss, now.peak, now.rss / first.rss] for name, now in held.items()
    ]
    return Grid("memory in MiB", ["", "resident", "its share", "most ever", "of the floor"], rows)


def _start_grid(starts: dict[str, list[float]]) -> Grid:
    floor = median(starts["the floor"])
    rows: list[list[str | float]] = [[name, median(times), median(times) / floor] for name, times in starts.items()]
    return Grid("imports", ["", "seconds", "of the floor"], rows)

"""A cloud shown at work: thousands of simulated servers at once, then real guests through the same API.

It is started for the purpose in a fresh folder and known by its public API alone. Invariant: at the end, however it
comes about, the cloud is gone and so is everything that it made on this machine.
"""

import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp

import msgspec
from msgspec.structs import replace

from muster.base.errors import Invalid
from muster.base.tasks import to_its_end
from muster.bench.launch import Launched, cloud_launch, launched, take_down
from muster.bench.observer import Observer
from muster.bench.options import Phase, ServersOptions
from muster.bench.records import ServersResult
from muster.bench.run import run_servers

SCHEMA = "muster.demo/1"
CLOUD = "muster"
# With real guests a first start builds their image and finds out what this machine can do.
START_S = 900.0
# Simulated hosts stand in this zone when the cloud has a real one beside them.
SIM_ZONE = "sim"


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown. `left_out` says why there are no real guests; None: there are."""

    servers: int = 2_000
    hosts: int = 500
    guests: int = 10
    guests_at_once: int = 2
    left_out: str | None = None

    def __post_init__(self) -> None:
        """Raises Invalid for what cannot be shown."""
        if self.hosts < 1:
            raise Invalid("simulated servers need at least one simulated host")


class DemoPart(msgspec.Struct, frozen=True):
    """One half: what it is called, and what came out of it."""

    title: str
    result: ServersResult


class DemoResult(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. `start_s` is how long the cloud took to be ready."""

    schema: str = SCHEMA
    parts: list[DemoPart]
    left_out: str | None
    start_s: float
    duration_s: float

    @property
    def ok(self) -> bool:
        """Whether every server went through every phase without an error, and nothing is left."""
        return all(part.result.ok for part in self.parts)


Watching = Callable[[], AbstractContextManager[Observer]]


async def run_demo(options: DemoOptions, watching: Watching) -> DemoResult:
    """Start a cloud, show its servers, and take everything away again. `watching` gives an observer for each half.

    Raises Transient, with what the cloud said, when it does not start; otherwise as `run_servers`.
    """
    began_s = time.monotonic()
    parts = []
    async with _cloud(options, Path(mkdtemp(prefix="muster-demo-"))) as cloud:
        start_s = time.monotonic() - began_s
        for title, wanted in _parts(options, cloud.clouds_yaml):
            with watching() as observer:
                parts.append(DemoPart(title, await run_servers(wanted, observer)))
    return DemoResult(parts=parts, left_out=options.left_out, start_s=start_s, duration_s=time.monotonic() - began_s)


@asynccontextmanager
async def _cloud(options: DemoOptions, folder: Path) -> AsyncIterator[Launched]:
    """The cloud while the block runs. Its folder stays only if what it left could not be removed, for a second try."""
    real = options.left_out is None
    launch = cloud_launch(folder, sim_hosts=options.hosts, more=("--libvirt",) if real else ())
    try:
        async with launched(replace(launch, start_s=START_S)) as cloud:
            yield cloud
    finally:
        if real:
            await to_its_end(take_down(folder))
        shutil.rmtree(folder, ignore_errors=True)


def _parts(options: DemoOptions, clouds_yaml: Path) -> list[tuple[str, ServersOptions]]:
    common = ServersOptions(cloud=CLOUD, config_files=(str(clouds_yaml),), network="default", image="guest")
    real = options.left_out is None
    simulated = replace(
        common,
        count=options.servers,
        flavor="m1.tiny",
        phases=(Phase.CREATE, Phase.DELETE),
        availability_zone=SIM_ZONE if real else None,
    )
    parts = [(f"{options.servers:,} simulated server{'s' * (options.servers > 1)}", simulated)]
    if real:
        guests = replace(
            common,
            count=options.guests,
            flavor="guest.tiny",
            max_alive=options.guests_at_once,
            rolling=True,
            login=True,
        )
        parts.append((f"{options.guests:,} real guest{'s' * (options.guests > 1)}", guests))
    return parts

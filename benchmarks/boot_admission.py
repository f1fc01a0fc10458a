"""Real guests asked for at once, with boot admission and with any number at a time: time, slowest guest, memory."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.boot_cloud import GUEST_MIB, MusterRound, a_real_cloud
from benchmarks.boot_tables import Way, ways_grid
from benchmarks.outcome import Aim, Outcome, Run, machine
from benchmarks.progress import Teller
from benchmarks.sizes import number_from
from benchmarks.spaces import spaces
from muster.bench.chart import draw as draw_run
from muster.cli.requirements import require_real_guests
from muster.host.boot_settings import AUTOMATIC, UNLIMITED

YARDSTICK = "the same cloud with `muster up --boots unlimited`: every guest boots as soon as it can"


async def run(teller: Teller, quick: bool) -> Outcome:
    """Both, one after the other. MUSTER_BENCH_GUESTS (40), each of MUSTER_BENCH_GUEST_MIB (128).

    Raises Unsupported, Invalid.
    """
    began, where = time.monotonic(), machine()
    guests = number_from("MUSTER_BENCH_GUESTS", 3 if quick else 40)
    guest_mib = number_from("MUSTER_BENCH_GUEST_MIB", GUEST_MIB)
    require_real_guests()
    ways: dict[str, MusterRound] = {}
    with (
        TemporaryDirectory(prefix="muster-admission-", ignore_cleanup_errors=True) as folder,
        spaces(1) as (space,),
        teller.steps(f"{guests} guests with and without admission", 2) as step,
    ):
        for boots in (AUTOMATIC, UNLIMITED):
            teller.says(f"--boots {boots}: {guests} servers asked for at once")
            own = Path(folder, boots)
            async with a_real_cloud(own, space, None, room_for=guests, boots=boots, guest_mib=guest_mib) as cloud:
                await cloud.warm_up()
                ways[boots] = await cloud.round(guests)
            step()
    admitted, unlimited = (_way(name, one) for name, one in ways.items())
    merged = ", ".join(f"--boots {name}: {one.ready.merged_mib:.0f} MiB" for name, one in ways.items())
    slowest = [max(server.ready_at_s or 0.0 for server in one.result.servers) for one in ways.values()]
    missed = [sum(figure.total - figure.ok for figure in one.result.figures) for one in ways.values()]
    return Outcome(
        name="boot-admission",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=[ways_grid([admitted, unlimited])],
        aims=[
            Aim(what="phases that a guest did not go through, with admission", value=missed[0], at_most=0, exact=True),
            Aim(what="total time, of that without", value=admitted.total_s / unlimited.total_s, at_most=1.0),
            Aim(
                what="until the slowest guest is ready, of that without",
                value=slowest[0] / max(1e-3, slowest[1]),  # 0: none became ready
                at_most=1.0,
            ),
            Aim(
                what="memory at its worst, of that without",
                value=admitted.peak_mib[0] / max(1.0, unlimited.peak_mib[0]),
                at_most=1.0,
            ),
        ],
        notes=[
            f"guests of {guest_mib} MiB; saved by the merging of equal pages (KSM) when all were ready: {merged}",
            *([f"without admission, {missed[1]} phases were not gone through"] if missed[1] else []),
        ],
        runs=[Run(name, one.result) for name, one in ways.items()],
    )


def draw(outcome: Outcome, file: Path) -> None:
    """A chart for each."""
    for one in outcome.runs:
        draw_run(one.result, file.with_stem(f"{file.stem}-{one.name}"))


def _way(boots: str, one: MusterRound) -> Way:
    used_s = one.ready.guests_s - one.before.guests_s
    return Way(name=f"--boots {boots}", results=[one.result], guests_s=[used_s], peak_mib=[one.peak_mib])

"""Real guests asked for at once, and the same guests started by hand: all at once, throttled, one at a time.

A guest is the test guest under the very same QEMU settings. By hand there is no Muster and no libvirt: bridge, taps,
dnsmasq, clones by qemu-img. The number of guests that are best started at a time by hand is found by trying.
Muster's host unpacks the image once. By hand it is unpacked before the clock starts, but for one way: all at once from
the image as it came, as somebody does it who starts guests and does no more.
"""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.boot_cloud import MusterRound, a_real_cloud
from benchmarks.boot_hand import by_the_hand
from benchmarks.boot_rounds import Found, Rounds, Sizes
from benchmarks.boot_tables import costs_grid, difference_grid, phases_grid, started, steps_grid, ways_grid
from benchmarks.family import watched_family
from benchmarks.outcome import Aim, Grid, Outcome, Run, machine
from benchmarks.progress import Teller
from benchmarks.sizes import number_from
from benchmarks.spaces import spaces
from muster.bench.chart import draw as draw_run
from muster.bench.records import ServersResult
from muster.cli.built_guest import image_for_cloud
from muster.cli.requirements import require_real_guests

YARDSTICK = (
    "the same guests under the same QEMU settings started by hand, without Muster and libvirt; rounds alternate "
    "(benchmarks/boot_hand.py)"
)
#: The whole run of the report of 2013 on 40 servers at once became so much shorter, in %.
SAVED_2013 = 74


def sizes(*, quick: bool) -> Sizes:
    """As the environment says: MUSTER_BENCH_GUESTS (40), MUSTER_BENCH_ROUNDS (2), MUSTER_BENCH_HAND_AT_ONCE (found).

    Raises Invalid for what is no number.
    """
    cpus = len(os.sched_getaffinity(0))
    guests = number_from("MUSTER_BENCH_GUESTS", 2 if quick else 40)
    at_once = number_from("MUSTER_BENCH_HAND_AT_ONCE", min(cpus, guests) if quick else 0)
    return Sizes(
        guests=guests,
        rounds=number_from("MUSTER_BENCH_ROUNDS", 1 if quick else 2),
        tried=(at_once,) if at_once else (cpus, cpus + 1, cpus + 2),
        tried_guests=8,
        serial=1 if quick else min(4, guests),
    )


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole benchmark. Raises Unsupported, which says what this machine or this user lacks; Invalid."""
    began, where, chosen = time.monotonic(), machine(), sizes(quick=quick)
    require_real_guests()
    image = image_for_cloud(is_new=True) or Path()
    with (
        TemporaryDirectory(prefix="muster-boot-", ignore_cleanup_errors=True) as folder,
        watched_family() as family,
        spaces(2) as (clouds, hands),
    ):
        teller.says("starting a cloud, and one guest to see how libvirt runs it")
        async with a_real_cloud(Path(folder, "cloud"), clouds, family, room_for=chosen.guests) as cloud:
            command = await cloud.a_guests_command()
            async with by_the_hand(Path(folder, "hand"), image, command, chosen.guests, hands) as hand:
                found = await Rounds(cloud, hand, chosen, teller).all()
    is_counted = family is not None and not family.lost
    return Outcome(
        name="boot",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=_grids(found),
        aims=_aims(found, is_counted=is_counted),
        notes=_notes(found, is_counted=is_counted),
        runs=[Run(name, result) for name, results in _results(found).items() for result in results[:1]],
    )


def draw(outcome: Outcome, file: Path) -> None:
    """A chart for each way."""
    for one in outcome.runs:
        draw_run(one.result, file.with_stem(f"{file.stem}-{one.name}"))


def _results(found: Found) -> dict[str, list[ServersResult]]:
    return {
        "muster": found.muster.results,
        "throttled": found.throttled.results,
        "all-at-once": found.unthrottled.results,
    }


def _grids(found: Found) -> list[Grid]:
    muster, throttled = found.muster, found.throttled.results
    grids = [
        ways_grid([muster, found.throttled, found.unthrottled, found.unpacked, found.serial], found.serial),
        phases_grid(muster.results, throttled),
        difference_grid(found.muster_rounds, throttled),
        steps_grid(found.muster_rounds),
        costs_grid(found.muster_rounds),
    ]
    if len(found.tried) > 1:
        rows: list[list[str | float]] = [[at_once, each_s] for at_once, each_s in found.tried.items()]
        grids.append(Grid("tried by hand", ["at a time", "s per guest"], rows))
    return grids


def _aims(found: Found, *, is_counted: bool) -> list[Aim]:
    muster, rounds, guests = found.muster, found.muster_rounds, found.sizes.guests
    missed = [sum(figure.total - figure.ok for figure in result.figures) for result in muster.results]
    floor = [
        result
        for result in (*found.throttled.results, *found.unthrottled.results, *found.unpacked.results)
        if not result.ok
    ]
    spoilt = [
        sum(result.traffic.errors.values()) + sum(result.traffic.retries.values()) + len(result.leftovers)
        for result in muster.results
    ]
    calls = max((one.ready.libvirt_calls - one.before.libvirt_calls) / guests for one in rounds)
    messages = max((one.gone.messages - one.before.messages) / guests for one in rounds)
    aims = [
        Aim(what="phases that a guest of Muster's did not go through", value=sum(missed), at_most=0, exact=True),
        Aim(what="errors, retries and things left behind", value=sum(spoilt), at_most=0, exact=True),
        Aim(what="rounds by hand in which a guest failed", value=len(floor), at_most=0, exact=True),
        Aim(
            what="total time, of all started by hand at once from the image as it came",
            value=muster.total_s / found.unthrottled.total_s,
            at_most=0.75,
        ),
        Aim(
            what=f"total time, of the best by hand ({found.best} at a time)",
            value=muster.total_s / found.throttled.total_s,
            at_most=1.10,
        ),
        Aim(what="libvirt calls per guest until it is ready", value=calls, at_most=2),
        Aim(what="messages per guest besides heartbeats, deletion included", value=messages, at_most=0.999),
        Aim(
            what="CPU seconds of Muster's process per guest, deletion and client's polls included",
            value=max((one.gone.muster_s - one.before.muster_s) / guests for one in rounds),
            at_most=0.05,
        ),
    ]
    if is_counted:
        own = sum(_others(one, "python") for one in rounds)
        theirs = max(_others(one, "libvirtd") / guests for one in rounds)
        aims += [
            Aim(what="programs that Muster started, but a DHCP server per network", value=own, at_most=0, exact=True),
            Aim(what="programs that libvirtd started per guest besides QEMU", value=theirs, at_most=0),
        ]
    return aims


def _others(one: MusterRound, starter: str) -> int:
    """How many programs besides QEMU, and besides one DHCP server, were started by a program of this name."""
    programs = {name.partition(": "): count for name, count in started(one).programs.items()}
    mine = {
        program: count
        for (by, _, program), count in programs.items()
        if by.startswith(starter) and not program.startswith("qemu-system")
    }
    return sum(mine.values()) - min(1, mine.get("dnsmasq", 0))


def _notes(found: Found, *, is_counted: bool) -> list[str]:
    muster, serial = found.muster, found.serial
    saved = 100 * (1 - muster.total_s / serial.total_s)
    against = 100 * (1 - muster.total_s / found.unthrottled.total_s)
    notes = [
        f"saved against one at a time: {saved:.0f} %, against all at once: {against:.0f} %; the report of 2013 saved "
        f"{SAVED_2013} % against its own system before it was tuned",
        f"total time, of all at once from the unpacked image: {muster.total_s / found.unpacked.total_s:.2f}",
    ]
    if not is_counted:
        notes.append("processes could not be counted: the kernel's process connector does not tell, or told too much")
    faults = {fault.text: fault.servers for result in muster.results for fault in result.faults}
    return notes + [f"{servers} servers: {text}" for text, servers in faults.items()]

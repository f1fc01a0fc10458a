"""`muster demo`: a cloud shown at work, with a table and a chart at the end."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
import uvloop
from rich.console import Console

from muster.base.errors import Invalid, MusterError, Unsupported
from muster.base.tasks import until_told
from muster.bench.console import PlainObserver, ProgressObserver
from muster.bench.demo import DemoOptions, DemoResult, run_demo
from muster.bench.demo_console import report
from muster.bench.observer import Observer
from muster.cli.charts import draw
from muster.cli.requirements import real_host_opener

_INTERRUPTED = 130  # 128 + SIGINT, as shells count


@click.command()
@click.option("--servers", type=click.IntRange(1, 100_000), default=2_000, show_default=True, help="Simulated ones.")
@click.option("--sim-hosts", type=click.IntRange(1, 20_000), default=500, show_default=True, help="For those.")
@click.option("--guests", type=click.IntRange(0, 1_000), default=10, show_default=True, help="Real ones; 0 for none.")
@click.option("--guests-at-once", type=click.IntRange(1), help="Real ones that start at a time.  [default: CPUs]")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var/demo"),
    show_default=True,
    help="Where charts and demo.json go.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON instead of a table.")
def demo(*, servers: int, sim_hosts: int, guests: int, guests_at_once: int | None, output: Path, as_json: bool) -> None:
    """Start a cloud, create thousands of simulated servers at once, then boot real guests; delete all.

    Each request is sent once. Real guests run under libvirt and QEMU and need root: each is pinged and logged into by
    ssh. Nothing is left behind but the results. Exit status 0: all went well.
    """
    console = Console(stderr=True)
    options = DemoOptions(
        servers=servers,
        hosts=sim_hosts,
        guests=guests,
        guests_at_once=guests_at_once or len(os.sched_getaffinity(0)),
        left_out=_why_no_guests(guests),
    )
    try:
        _ensure_folder(output)
        console.print(_announcement(options), style="dim", highlight=False)
        result = uvloop.run(until_told(run_demo(options, lambda: _watching(console))))
        _show(result, as_json=as_json)  # before anything is written: a full disk must not be the end of it
        charts = _write(result, output)
    except MusterError as error:
        raise click.ClickException(error.message) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)
    for chart in charts if not as_json else ():
        click.echo(f"Chart: {chart}")
    sys.exit(0 if result.ok else 1)


def _show(result: DemoResult, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode(result))
    else:
        Console().print(report(result))


def _why_no_guests(guests: int) -> str | None:
    """Why real guests cannot be had here, and what to do about it; None: they can."""
    if guests == 0:
        return "None were asked for."
    if os.geteuid() != 0:
        return "They need root (libvirt, bridges, nftables): run this as root to see them."
    try:
        real_host_opener()
    except Unsupported as error:
        return error.message
    return None


def _announcement(options: DemoOptions) -> str:
    if options.left_out is None:
        return "Starting a cloud with simulated hosts and this machine (the first time, the guest's image is built) ..."
    return "Starting a cloud with simulated hosts ..."


def _ensure_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Invalid(f"{output} cannot be made: {error.strerror}; choose another --output") from error
    if not os.access(output, os.W_OK):
        raise Invalid(f"{output} cannot be written to; choose another --output")


@contextmanager
def _watching(console: Console) -> Iterator[Observer]:
    if not console.is_terminal:
        yield PlainObserver(console)
        return
    with ProgressObserver(console) as observer:
        yield observer


def _write(result: DemoResult, output: Path) -> list[Path]:
    """demo.json and a chart for each half; the charts' paths."""
    try:
        (output / "demo.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    except OSError as error:
        raise Invalid(f"{output}/demo.json cannot be written: {error.strerror}") from error
    charts = []
    for part, name in zip(result.parts, ("simulated.png", "guests.png"), strict=False):
        draw("muster.bench.chart", part.result, output / name)
        charts.append(output / name)
    return charts

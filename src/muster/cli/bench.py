"""`muster bench`: measure a cloud from its users' side, through its public APIs."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console

from muster.base.chart_files import check_suffix
from muster.base.errors import Invalid, MusterError
from muster.base.tasks import until_told
from muster.bench.console import PlainObserver, ProgressObserver, report
from muster.bench.options import Phase, ServersOptions, parse_phases
from muster.bench.records import ServersResult, to_json
from muster.bench.run import run_servers
from muster.cli.charts import draw

_ALL_PHASES = ",".join(Phase)
_INTERRUPTED = 130  # 128 + SIGINT, as shells count


@click.group()
def bench() -> None:
    """Benchmarks against any OpenStack cloud that clouds.yaml names."""


@bench.command()
@click.option("--count", type=int, default=40, show_default=True, help="How many servers.")
@click.option("--cloud", help="The cloud's name in clouds.yaml.  [default: OS_CLOUD, or the only one]")
@click.option("--image", help="Name or id.  [default: the only one]")
@click.option("--flavor", help="Name or id.  [default: the smallest]")
@click.option("--network", default="auto", show_default=True, help="Name or id; auto: the only internal one.")
@click.option("--availability-zone", help="Where the servers go.  [default: the cloud's choice]")
@click.option("--security-group", help="Name or id.  [default: one is made that lets ICMP and ssh in]")
@click.option("--phases", default=_ALL_PHASES, show_default=True, help="create,delete for simulated servers.")
@click.option("--concurrency", type=int, help="Requests to create or delete in flight.  [default: all at once]")
@click.option("--max-alive", type=int, help="At most so many servers that are not ready yet.  [default: no limit]")
@click.option("--rate", "rate_per_s", type=float, help="Requests to create per second.  [default: all at once]")
@click.option("--rolling", is_flag=True, help="Delete each server once it is ready; --max-alive then counts all.")
@click.option("--batch", is_flag=True, help="One request with min_count instead of one per server.")
@click.option("--key", is_flag=True, help="Make an ed25519 key pair for the servers, and remove it afterwards.")
@click.option("--login", is_flag=True, help="Log in by ssh and run a command, instead of waiting for the banner only.")
@click.option("--user", default="root", show_default=True, help="Who logs in.")
@click.option("--ssh-port", type=int, default=22, show_default=True, help="Where ssh listens.")
@click.option("--timeout-s", type=float, default=600.0, show_default=True, help="Per server and phase.")
@click.option("--keep", is_flag=True, help="Remove nothing; leaves out the phase delete.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write everything here.")
@click.option("--chart", "chart_file", type=click.Path(dir_okay=False, path_type=Path), help="A .png, .svg or .pdf.")
def servers(phases: str, json_file: Path | None, chart_file: Path | None, **options: Any) -> None:
    """Create many servers at once, and delete them.

    Waits until each is ACTIVE, answers ping and ssh, then deletes all.

    Everything that was made is removed again, also after an interruption. Exit status 0 means that every server went
    through every phase without an error or a retry, and that nothing is left behind.
    """
    try:
        chosen = parse_phases(phases)
        if options["keep"]:
            chosen = tuple(phase for phase in chosen if phase is not Phase.DELETE)
        wanted = ServersOptions(phases=chosen, **options)
        _check_outputs(json_file, chart_file)
        result = _run(wanted)
        Console().print(report(result))  # before anything is written: a full disk must not be the end of it
        _write(result, json_file, chart_file)
    except MusterError as error:
        raise click.ClickException(error.message) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)
    sys.exit(0 if result.ok else 1)


def _check_outputs(json_file: Path | None, chart_file: Path | None) -> None:
    """Find out before a long run, not after it, that its results cannot be written."""
    if chart_file is not None:
        check_suffix(chart_file)
    for file in (json_file, chart_file):
        if file is not None and not os.access(file.parent, os.W_OK):
            raise Invalid(f"{file} cannot be written: no such directory, or not allowed")


def _run(options: ServersOptions) -> ServersResult:
    console = Console(stderr=True)
    if not console.is_terminal:
        return uvloop.run(until_told(run_servers(options, PlainObserver(console))))
    with ProgressObserver(console) as observer:
        return uvloop.run(until_told(run_servers(options, observer)))


def _write(result: ServersResult, json_file: Path | None, chart_file: Path | None) -> None:
    try:
        if json_file is not None:
            json_file.write_bytes(to_json(result))
    except OSError as error:
        raise Invalid(f"{json_file} cannot be written: {error}") from error
    if chart_file is not None:
        draw("muster.bench.chart", result, chart_file)

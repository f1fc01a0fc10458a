"""`muster fit`: how many guests of an image, under a user's load, a host holds."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop
from rich.console import Console

from muster.base.errors import Invalid, MusterError
from muster.base.tasks import until_told
from muster.fit.console import PlainObserver, ProgressObserver, report
from muster.fit.options import PERCENTILES, FitOptions
from muster.fit.records import FitResult
from muster.fit.run import run_fit
from muster.top.scrape import answering, scrape, target_url

_INTERRUPTED = 130  # 128 + SIGINT, as shells count
_SAVED = "muster_ksm_saved_bytes"
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--cloud", help="The cloud's name in clouds.yaml.  [default: OS_CLOUD, or the only one]")
@click.option("--image", help="Name or id.  [default: the only one]")
@click.option("--flavor", help="Name or id.  [default: the smallest]")
@click.option("--network", default="auto", show_default=True, help="Name or id; auto: the only internal one.")
@click.option("--security-group", help="Name or id.  [default: one is made that lets ICMP and ssh in]")
@click.option("--host", help="The host to fill, as `openstack hypervisor list` names it.")
@click.option("--availability-zone", help="Its zone; without --host all hosts of the zone are filled together.")
@click.option("--host-ram-mib", type=int, help="Its memory, where the cloud does not tell you.")
@click.option("--host-vcpus", type=int, help="Its processors, where the cloud does not tell you.")
@click.option("--user-data", "user_data_file", type=_FILE, help="Given to each guest: cloud-config, or a script.")
@click.option("--script", "script_file", type=_FILE, help="Run in each guest by ssh, in the background: its load.")
@click.option("--probe", default="true", show_default=True, help="A command, whose round trip is measured.")
@click.option("--bound-ms", type=float, default=1000.0, show_default=True, help="What the round trip may take.")
@click.option(
    "--percentile",
    type=click.Choice([str(one) for one in PERCENTILES]),
    default="95",
    show_default=True,
    help="Which of the round trips is bound.",
)
@click.option("--start", type=int, default=1, show_default=True, help="Guests to begin with.")
@click.option("--step", type=int, default=2, show_default=True, help="Guests more each time, until the bound breaks.")
@click.option("--max-guests", "most", type=int, default=100, show_default=True, help="At most so many.")
@click.option("--settle-s", type=float, default=15.0, show_default=True, help="Wait once all are up.")
@click.option("--measure-s", type=float, default=30.0, show_default=True, help="Measure for so long.")
@click.option("--every-s", type=float, default=1.0, show_default=True, help="Between two probes of a guest.")
@click.option("--probe-timeout-s", type=float, default=30.0, show_default=True, help="Longer ones count as that.")
@click.option("--boot-timeout-s", type=float, default=600.0, show_default=True, help="Until all new guests are up.")
@click.option("--user", default="root", show_default=True, help="Who logs in.")
@click.option("--ssh-port", type=int, default=22, show_default=True, help="Where ssh listens.")
@click.option("--metrics", multiple=True, metavar="HOST:PORT", help="Metrics of Muster's hosts: what KSM saves.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write everything here.")
def fit(
    user_data_file: Path | None,
    script_file: Path | None,
    percentile: str,
    metrics: tuple[str, ...],
    json_file: Path | None,
    **options: Any,
) -> None:
    """Find the highest overcommit at which guests still answer fast enough.

    Boots guests on a host in steps, with your load in them (--user-data, --script), and measures how long a command
    takes on an ssh connection that is open already. When the bound breaks, it searches down to the number that holds.
    The load must go on for as long as the run does. Set the cloud's overcommit high before, or it gives no more guests.

    Everything that was made is removed again, also after an interruption. Exit status 0 means that the run came to its
    end, that some number of guests kept to the bound, and that nothing is left behind.
    """
    try:
        wanted = FitOptions(
            user_data=user_data_file.read_bytes() if user_data_file else None,
            script=script_file.read_bytes() if script_file else None,
            percentile=int(percentile),
            **options,
        )
        _check_output(json_file)
        result = _run(wanted, _savings(metrics) if metrics else None)
        Console().print(report(result))  # before anything is written: a full disk must not be the end of it
        if json_file is not None:
            _write(result, json_file)
    except MusterError as error:
        raise click.ClickException(error.message) from error
    except OSError as error:
        raise click.ClickException(str(error)) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)
    sys.exit(0 if result.advice.guests and result.failure is None and not result.leftovers else 1)


def _savings(targets: tuple[str, ...]) -> Callable[[], float | None]:
    """What KSM saves on the hosts whose metrics these are, in MiB; None unless all of them say it.

    Raises Invalid for what is no target.
    """
    for target in targets:
        target_url(target)

    def read() -> float | None:
        looks = scrape(targets)
        found = [value for one in looks for (name, _), value in one.values.items() if name == _SAVED]
        return sum(found) / 2**20 if found and len(answering(looks)) == len(looks) else None

    return read


def _check_output(json_file: Path | None) -> None:
    """Find out before a long run, not after it, that its result cannot be written."""
    if json_file is not None and not os.access(json_file.parent, os.W_OK):
        raise Invalid(f"{json_file} cannot be written: no such directory, or not allowed")


def _write(result: FitResult, json_file: Path) -> None:
    try:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    except OSError as error:
        raise Invalid(f"{json_file} cannot be written: {error}") from error


def _run(options: FitOptions, savings: Callable[[], float | None] | None) -> FitResult:
    console = Console(stderr=True)
    if not console.is_terminal:
        return uvloop.run(until_told(run_fit(options, PlainObserver(console), savings)))
    with ProgressObserver(console) as observer:
        return uvloop.run(until_told(run_fit(options, observer, savings)))

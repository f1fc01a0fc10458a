"""`muster soak`: scripted users against any cloud for hours, failures and response times by versions of the hosts."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.live import Live
from rich.text import Text

from muster.base.errors import Invalid, MusterError
from muster.base.tasks import until_told
from muster.cli.charts import draw
from muster.client.api import Api, Tally
from muster.client.cloud import connect
from muster.client.http import HttpClient
from muster.soak.clean import clean as clean_run
from muster.soak.clean import runs
from muster.soak.console import drawn, line, live
from muster.soak.folder import Folder, Saved, load, opened, prefix_of
from muster.soak.report import Report, to_json
from muster.soak.report import report as report_of
from muster.soak.run import Progress, Shown, run_soak
from muster.soak.scenario import Scenario, scenario, seconds

_FAILED, _COULD_NOT, _INTERRUPTED = 1, 2, 130  # 128 + SIGINT, as shells count
_LINE_EVERY_S = 60.0
_CLEAN_S = 300.0

_data = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("var/soak"),
    show_default=True,
    help="The soak's folder: its counters, report.json, report.txt, chart.png.",
)
_json = click.option("--json", "as_json", is_flag=True, help="For scripts: the report as JSON, and nothing else.")


class _Seconds(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return seconds(value)
        except MusterError as error:
            self.fail(error.message, param, ctx)


@click.group()
def soak() -> None:
    """Play users against any OpenStack cloud for hours: what fails, how long it takes, by versions of the hosts."""


@soak.command()
@_data
@click.option("--scenario", "file", type=click.Path(dir_okay=False, path_type=Path), help="TOML or YAML: docs/soak.md.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted soak; without one, begin.")
@click.option("--cloud", help="The cloud's name in clouds.yaml.  [default: OS_CLOUD, or the only one]")
@click.option("--users", type=int, help="Servers at a time, at most.  [default: 5]")
@click.option("--rate-per-min", type=float, help="Servers begun per minute; 0: as fast as users can.  [default: 6]")
@click.option("--duration", "duration_s", type=_Seconds(), help="As 90s, 30m, 8h or 2d.  [default: 1h]")
@click.option("--image", help="Name or id.  [default: the only one]")
@click.option("--flavor", help="Name or id.  [default: the smallest]")
@click.option("--network", help="Name or id; auto: the only internal one.  [default: auto]")
@click.option("--availability-zone", help="Where the servers go.  [default: the cloud's choice]")
@click.option("--ping/--no-ping", default=None, help="Ping guests once they are ACTIVE.  [default: no-ping]")
@click.option("--ssh/--no-ssh", default=None, help="Log into guests once they are ACTIVE.  [default: no-ssh]")
@click.option("--user", help="Who logs in.  [default: root]")
@click.option("--ssh-port", type=int, help="Where ssh listens.  [default: 22]")
@click.option("--activities", type=int, nargs=2, default=None, help="Least and most per server.  [default: 2 6]")
@click.option("--think-s", type=float, nargs=2, default=None, help="Pauses, least and most.  [default: 1 5]")
@click.option("--mix", multiple=True, metavar="ACTIVITY=WEIGHT", help="What users do, e.g. reboot=3; may be repeated.")
@click.option("--timeout-s", type=float, help="Of each operation.  [default: 300]")
@click.option("--allowed-percent", type=float, help="Operations that may fail.  [default: 0]")
@click.option("--versions", multiple=True, help="A file that says what hosts run, also `muster doctor --json`'s.")
@click.option("--seed", type=int, help="Of what users draw.")
@_json
def run(*, data: Path, file: Path | None, resume: bool, mix: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Play users for as long as you say.

    Each creates a server, uses, reboots, stops, rebuilds it, changes its interfaces, moves to another one, and deletes
    it.

    Everything that was made is removed at the end, also after Ctrl-C. After kill -9 or a reboot, `--resume` goes on.

    Exit status: 0 no more operations failed than allowed and nothing is left, 1 not so, 2 it could not begin,
    130 interrupted.
    """
    with _said():
        wanted = scenario(file, {**options, "mix": _mix(mix)})
        status = 0
        with opened(data) as folder:
            before = folder.load()
            try:
                saved = _play(wanted, folder, resume=resume, is_quiet=as_json)
            except KeyboardInterrupt:
                status = _INTERRUPTED
                found = folder.load()
                if found is None or (before is not None and before.over and before.run == found.run):
                    raise  # before it had begun: what is there is another soak's
                saved = found
            _tell(saved, data, as_json=as_json)
        sys.exit(status or (0 if report_of(saved).ok else _FAILED))


@soak.command()
@_data
@click.option("--chart", type=click.Path(dir_okay=False, path_type=Path), help="Also draw it: a .png, .svg or .pdf.")
@_json
def report(*, data: Path, chart: Path | None, as_json: bool) -> None:
    """Show what a soak has counted, also while it goes on. Exit status as that of `run`."""
    with _said():
        saved = load(data)
        if saved is None:
            raise Invalid(f"no soak has been in {data}")
        said = report_of(saved)
        _show(said, as_json=as_json)
        if chart is not None:
            draw("muster.soak.chart", said, chart)
        sys.exit(0 if said.ok else _FAILED)


@soak.command()
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="The folder of the soak whose things go."
)
@click.option("--cloud", help="The cloud's name in clouds.yaml.  [default: that of --data, or OS_CLOUD]")
@click.option("--run", "run_id", help="The soak's run, eight digits in the names of what it made.")
@click.option("--all", "is_all", is_flag=True, help="What any soak made in this project.")
@click.option("--yes", is_flag=True, help="With --all: do not ask.")
def clean(*, data: Path | None, cloud: str | None, run_id: str | None, is_all: bool, yes: bool) -> None:
    """Remove what interrupted soaks made.

    Servers, security groups, key pairs. Exit status 1: something is left.
    """
    with _said():
        if sum((data is not None, run_id is not None, is_all)) != 1:
            raise Invalid("say one of --data, --run and --all")
        if data is not None:
            if not os.path.isdir(data):
                raise Invalid(f"no soak has been in {data}")
            with opened(data) as folder:
                left = _clean_folder(folder, cloud)
        else:
            left = uvloop.run(_clean(cloud, (), [run_id] if run_id else None, is_sure=yes))
        for one in left:
            click.echo(f"not removed: {one}", err=True)
        sys.exit(_FAILED if left else 0)


@contextmanager
def _said() -> Iterator[None]:
    """Errors as one line, with the status for them."""
    try:
        yield
    except MusterError as error:
        click.echo(f"Error: {error.message}", err=True)
        sys.exit(_COULD_NOT)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)


def _mix(words: tuple[str, ...]) -> dict[str, float] | None:
    mix = {}
    for word in words:
        name, equals, weight = word.partition("=")
        try:
            mix[name.strip()] = float(weight) if equals else 1.0
        except ValueError as error:
            raise Invalid(f"--mix wants ACTIVITY=WEIGHT, not {word!r}") from error
    return mix or None


def _play(wanted: Scenario, folder: Folder, *, resume: bool, is_quiet: bool) -> Saved:
    console = Console(stderr=True)

    def playing(shown: Shown | None) -> Saved:
        return uvloop.run(until_told(run_soak(wanted, folder, shown, resume=resume)))

    try:
        if is_quiet:
            return playing(None)
        if not console.is_terminal:
            return playing(_lines(console))
        with Live(Text("connecting ..."), console=console, auto_refresh=False, transient=True) as screen:
            return playing(lambda progress: screen.update(live(progress), refresh=True))
    except asyncio.CancelledError as error:  # SIGTERM
        raise KeyboardInterrupt from error


def _lines(console: Console) -> Shown:
    """A line when something else is done, and one a minute."""
    last = ("", 0.0)

    def shown(progress: Progress) -> None:
        nonlocal last
        doing, at_s = last
        if progress.doing != doing or time.monotonic() - at_s >= _LINE_EVERY_S:
            last = (progress.doing, time.monotonic())
            console.print(Text(line(progress)))

    return shown


def _tell(saved: Saved, data: Path, *, as_json: bool) -> None:
    said = report_of(saved)
    _show(said, as_json=as_json)  # before anything is written: a full disk must not be the end of it
    try:
        (data / "report.json").write_bytes(to_json(said))
        with (data / "report.txt").open("w") as text:
            Console(file=text, width=100).print(drawn(said))
    except OSError as error:
        raise Invalid(f"the report cannot be written to {data}: {error.strerror}") from error
    draw("muster.soak.chart", said, data / "chart.png")
    if not as_json:
        click.echo(f"{data}/report.json, report.txt, chart.png")


def _show(said: Report, *, as_json: bool) -> None:
    if as_json:
        click.echo(to_json(said), nl=False)
    else:
        Console().print(drawn(said))


def _clean_folder(folder: Folder, cloud: str | None) -> list[str]:
    saved = folder.load()
    if saved is None:
        raise Invalid(f"no soak has been in {folder.path}")
    wanted = saved.scenario
    left = uvloop.run(_clean(cloud or wanted.cloud, wanted.config_files, [saved.run], is_sure=True))
    saved.leftovers, saved.over = left, not left
    folder.save(saved)
    return left


async def _clean(
    cloud_name: str | None, config_files: tuple[str, ...], wanted: list[str] | None, *, is_sure: bool
) -> list[str]:
    cloud = await connect(cloud_name, config_files, time.monotonic)
    try:
        async with HttpClient(cloud.tls) as http:
            api = Api(http, cloud, Tally())
            found = sorted(await runs(api)) if wanted is None else wanted
            if wanted is None and found and not is_sure:
                click.confirm(f"Remove all of the soaks {', '.join(found)}?", err=True, abort=True)
            left = []
            for one in found:
                stays = await clean_run(api, prefix_of(one), timeout_s=_CLEAN_S)
                click.echo(f"soak {one}: not all is removed" if stays else f"soak {one}: removed what it made")
                left += stays
            if not found:
                click.echo("There is nothing of any soak.")
            return left
    finally:
        cloud.tokens.close()

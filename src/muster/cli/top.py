"""`muster top`: what a cluster's processes are doing, live, and what they wait for most."""

import sys
import time
from ipaddress import ip_address
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.live import Live
from rich.text import Text

from muster.base.errors import Invalid, MusterError
from muster.cli.settings import read_settings
from muster.top.console import drawn
from muster.top.rates import Picture, compare, remembered
from muster.top.scrape import Scrape, answering, scrape, target_url, targets_of

_UP = "127.0.0.1:8774"  # where `muster up` answers unless it is told otherwise


@click.command()
@click.argument("targets", nargs=-1, metavar="[HOST:PORT|URL]...")
@click.option("--settings", type=click.Path(path_type=Path), help="The workers and hosts of this machine's settings.")
@click.option("--targets", "file", type=click.Path(path_type=Path), help="A file of targets as Prometheus reads it.")
@click.option("--every-s", type=click.FloatRange(0.1, 3600), default=2.0, show_default=True, help="Between looks.")
@click.option("--once", is_flag=True, help="Two looks, one picture, and end.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON per picture, for scripts.")
def top(
    targets: tuple[str, ...], settings: Path | None, file: Path | None, *, every_s: float, once: bool, as_json: bool
) -> None:
    """Show live what the processes of a cluster do, and name what they wait for most.

    Reads each process's metrics, which are served on the loopback interface only unless the settings say otherwise.
    Without targets it looks at `muster up` on this machine. Ends with Ctrl-C; exit status 1 if nobody answers.
    """
    try:
        wanted = _wanted(targets, settings, file)
        before = _first_look(wanted)
        console = Console()
        if as_json or once or not console.is_terminal:
            _print_pictures(wanted, before, every_s, once=once, as_json=as_json, console=console)
        else:
            _live(wanted, before, every_s, console)
    except MusterError as error:
        raise click.ClickException(error.message) from error
    except KeyboardInterrupt:
        sys.exit(0)


def _wanted(targets: tuple[str, ...], settings: Path | None, file: Path | None) -> list[str]:
    found = [*targets, *(targets_of(file) if file else ()), *(_targets_of_settings(settings) if settings else ())]
    for target in found:
        target_url(target)
    return list(dict.fromkeys(found)) or [_UP]


def _targets_of_settings(path: Path) -> list[str]:
    settings = read_settings(path)
    serve, host = settings.serve, settings.host
    ports = [serve.metrics_port + index for index in range(serve.workers)] if serve.metrics_port else []
    found = [_target(serve.metrics_bind, port) for port in ports]
    if host.metrics_port:
        found.append(_target(host.metrics_bind, host.metrics_port))
    if not found:
        raise Invalid(f"{path} lets no process serve metrics: set serve.metrics_port or host.metrics_port")
    return found


def _target(bind: str, port: int) -> str:
    """Where a process answers that listens there: one that listens on every address does on this machine's own."""
    address = ip_address(bind)
    if address.is_unspecified:
        address = ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def _first_look(targets: list[str]) -> list[Scrape]:
    found = scrape(targets)
    if not answering(found):
        reasons = "\n".join(f"  {one.target}: {one.error}" for one in found)
        raise Invalid(f"No process answers:\n{reasons}\nName others: muster top HOST:PORT")
    return found


def _print_pictures(
    targets: list[str], before: list[Scrape], every_s: float, *, once: bool, as_json: bool, console: Console
) -> None:
    while True:
        time.sleep(every_s)
        now = scrape(targets)
        picture = compare(before, now)
        if as_json:
            click.echo(_line(picture))
        else:
            console.print(drawn(picture))
        if once:
            return
        before = remembered(before, now)


def _line(picture: Picture) -> bytes:
    most = picture.most_contended
    return msgspec.json.encode(
        {**msgspec.structs.asdict(picture), "most_contended": most.thing if most is not None else None}
    )


def _live(targets: list[str], before: list[Scrape], every_s: float, console: Console) -> None:
    with Live(Text("Looking ..."), console=console, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(every_s)
            now = scrape(targets)
            live.update(drawn(compare(before, now)), refresh=True)
            before = remembered(before, now)

"""`python -m benchmarks NAME`: run one benchmark, or `all` of them."""

import asyncio
import importlib
import sys
from pathlib import Path

import click
import uvloop
from rich.console import Console

from benchmarks.outcome import Outcome, show, write
from benchmarks.progress import Teller
from muster.base.errors import MusterError
from muster.base.tasks import until_told

# In this order `all` runs them; each module has `async def run(teller, quick) -> Outcome`, and `draw(outcome, file)` if
# there is a chart.
NAMES = (
    "servers",
    "workers",
    "ports",
    "ports-cluster",
    "addresses",
    "contention",
    "servers-scale",
    "idle",
    "dhcp",
    "firewall",
    "boot",
    "boot-admission",
)
# Needs an environment of its own (scripts/neutron-venv) and takes long: only when it is named.
APART = ("neutron",)
_INTERRUPTED = 130  # 128 + SIGINT, as shells count


def run_one(name: str, console: Console, folder: Path, *, quick: bool) -> Outcome:
    """Run a benchmark, show and write what it found."""
    module = importlib.import_module(f"benchmarks.{name.replace('-', '_')}")
    with Teller(Console(stderr=True)) as teller:
        outcome: Outcome = uvloop.run(until_told(module.run(teller, quick)))
    show(outcome, console)
    console.print(f"  written to {write(outcome, folder)}", style="dim", highlight=False)
    if hasattr(module, "draw"):
        module.draw(outcome, folder / f"{name}.png")
    return outcome


@click.command()
@click.argument("names", nargs=-1, type=click.Choice([*NAMES, *APART, "all"]), required=True)
@click.option("--quick", is_flag=True, help="Small sizes: shows that it works, not how fast.")
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), default=Path("var/bench"), show_default=True
)
def main(names: tuple[str, ...], quick: bool, output: Path) -> None:
    """Run benchmarks one after the other. Exit status 0: every aim was met (with --quick: every exact one)."""
    console = Console()
    try:
        outcomes = [
            run_one(name, console, output, quick=quick) for name in (NAMES if "all" in names else dict.fromkeys(names))
        ]
    except MusterError as error:
        raise click.ClickException(error.message) from error
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)
    sys.exit(0 if all(outcome.ok for outcome in outcomes) else 1)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")

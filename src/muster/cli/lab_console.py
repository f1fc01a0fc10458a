"""What a terminal shows of a lab."""

import shlex
from pathlib import Path
from types import TracebackType

from rich import box
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from muster.lab.cluster import PartStatus, State
from muster.lab.plan import Part

_COLOURS = {State.READY: "green", State.RUNNING: "yellow", State.PAUSED: "yellow", State.DOWN: "red"}


class BuildProgress:
    """A line per part while a lab is built; for `with`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]ok"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "BuildProgress":
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()

    def begins(self, part: Part) -> None:
        """A line of its own."""
        self._tasks[part.name] = self._progress.add_task(_described(part), total=1)

    def ready(self, part: Part) -> None:
        """Ticked off."""
        self._progress.update(self._tasks[part.name], completed=1)


def parts_table(rows: list[PartStatus]) -> Table:
    """What `muster lab status` shows."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("part", "what", "address", "state", "cable"):
        table.add_column(heading, no_wrap=True)
    for heading in ("pid", "processes"):
        table.add_column(heading, justify="right")
    for row in rows:
        is_worker = row.name.startswith("worker-")
        table.add_row(
            f"  {row.name}" if is_worker else row.name,
            "worker" if is_worker else row.kind.value,
            "" if is_worker else row.address,
            Text(row.state.value, style=_COLOURS[row.state]),
            "" if is_worker else Text("in") if row.joined else Text("cut", style="red"),
            str(row.pid or "-"),
            "" if is_worker else str(row.processes),
        )
    return table


def usage(folder: Path) -> str:
    """What to do with a lab that is ready; lines to be copied, so nothing may break them."""
    data = f"--data {shlex.quote(str(folder))}"
    lines = [
        f"export OS_CLIENT_CONFIG_FILE={shlex.quote(str(folder / 'clouds.yaml'))} OS_CLOUD=muster",
        "openstack server create --image guest --flavor m1.tiny --network default one --wait",
        f"muster lab status {data}",
        f"muster lab kill worker-1 {data}",
        f"muster lab down {data}",
    ]
    return "\n".join(f"  {line}" for line in lines)


def _described(part: Part) -> str:
    things = {"control": "worker", "simulated hosts": "host"}.get(part.kind.value)
    size = f" ({part.size} {things}{'' if part.size == 1 else 's'})" if things else ""
    return f"{part.name}{size}"

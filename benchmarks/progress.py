"""Progress of a benchmark: bars on a terminal, lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Teller:
    """Says what a benchmark is doing; for `with`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

    def __enter__(self) -> "Teller":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def says(self, text: str) -> None:
        """A line of its own."""
        self._progress.console.print(text, style="dim", highlight=False)

    @contextmanager
    def steps(self, what: str, total: int) -> Iterator[Callable[..., None]]:
        """A bar of `total` steps; what is yielded is called after each, or with how many."""
        if not self._console.is_terminal:
            self.says(f"{what} ({total})")
        task = self._progress.add_task(what, total=total)
        try:
            yield lambda count=1: self._progress.advance(task, count)
        finally:
            self._progress.remove_task(task)

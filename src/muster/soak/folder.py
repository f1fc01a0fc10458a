"""A soak's folder: what it has counted, so that it goes on after an interruption, `kill -9` included.

Invariants: an event that was noted is counted once, whatever moment the process died at: the counters are replaced as a
whole, and know the last event of the journal that is in them. A loss of power takes at most what is in the journal
alone, which is not synced. One process at a time uses a folder.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

import msgspec

from muster.base.durable import replace_file, sync_directory
from muster.base.errors import Conflict, Invalid
from muster.soak.scenario import Scenario
from muster.soak.statistics import Event, Statistics

SCHEMA = "muster.soak.state/1"
STATE, JOURNAL, LOCK = "state.json", "journal.jsonl", "lock"

_LINE = msgspec.json.Decoder(tuple[int, Event])


class Environment(msgspec.Struct, frozen=True):
    """Where a soak plays, and when it began."""

    cloud: str
    region: str | None
    compute_url: str
    started_at: str


class Saved(msgspec.Struct, kw_only=True):
    """Everything that outlives the process. `active_s` is the soak's own clock, which stands while it does not run.

    `noted` is the number of the last event that the counters contain; `over` says that nothing is left to do.
    """

    schema: str = SCHEMA
    run: str
    scenario: Scenario
    environment: Environment
    active_s: float = 0.0
    noted: int = 0
    interruptions: list[float] = []
    missed_turns: int = 0
    over: bool = False
    statistics: Statistics = msgspec.field(default_factory=Statistics)
    hosts: dict[str, list[str]] = {}
    client_cpu_s: float = 0.0
    client_rss_mib: float = 0.0
    leftovers: list[str] = []

    @property
    def prefix(self) -> str:
        """What the names of all that the run makes begin with."""
        return prefix_of(self.run)


def prefix_of(run: str) -> str:
    """What the names of all that a run makes begin with."""
    return f"muster-soak-{run}-"


class Folder:
    """State and journal. To be used by one process, see `opened`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal: FileIO | None = None

    def load(self) -> Saved | None:
        """What was saved, with what happened after that; None where no soak has been.

        Raises Invalid for files that are not a soak's.
        """
        return load(self.path)

    def save(self, saved: Saved) -> None:
        """Replace what was saved, durably; the journal begins anew. Raises Invalid when it cannot be written."""
        with self._written():
            replace_file(self.path / STATE, msgspec.json.encode(saved))
            sync_directory(self.path)  # before the journal, of which it has all
            self.close()
            self._journal = (self.path / JOURNAL).open("wb", buffering=0)

    def note(self, saved: Saved, event: Event) -> None:
        """Count an event, and write it down: it survives this process from now on. Raises Invalid when it cannot be."""
        saved.noted += 1
        saved.statistics.apply(event)
        with self._written():
            if self._journal is None:
                self._journal = (self.path / JOURNAL).open("ab", buffering=0)
            line = msgspec.json.encode((saved.noted, event)) + b"\n"
            if self._journal.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Invalid(f"what the soak counts cannot be written to {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None


@contextmanager
def opened(path: Path) -> Iterator[Folder]:
    """The folder, made where it is missing, held by this process. Raises Conflict when another one holds it."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (path / LOCK).open("wb")
    except OSError as error:
        raise Invalid(f"{path} cannot be used: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(f"another `muster soak` uses {path}") from error
        folder = Folder(path)
        try:
            yield folder
        finally:
            folder.close()


def load(path: Path) -> Saved | None:
    """As `Folder.load`, also while a soak runs there."""
    try:
        saved = msgspec.json.decode((path / STATE).read_bytes(), type=Saved)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise Invalid(f"{path / STATE} is not what a soak saved: {error}") from error
    if saved.schema != SCHEMA:
        raise Invalid(f"{path / STATE} has the schema {saved.schema}, not {SCHEMA}")
    with contextlib.suppress(FileNotFoundError), (path / JOURNAL).open("rb") as journal:
        for line in journal:
            _replay(saved, line)
    return saved


def _replay(saved: Saved, line: bytes) -> None:
    try:
        number, event = _LINE.decode(line)
    except msgspec.MsgspecError:  # the last line, which a killed process did not finish
        return
    if number > saved.noted:
        saved.noted = number
        saved.statistics.apply(event)
        saved.active_s = max(saved.active_s, event.at_s)

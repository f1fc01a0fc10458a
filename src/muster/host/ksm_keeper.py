"""Switches and tunes KSM for one cloud's host, watches it, and puts it back as it was.

Invariants: what an operator, ksmtuned, the kernel's own advisor or another cloud manages is never touched. How things
stood before is written down before the first change, so that it is put back also after a crash; a reboot puts
everything back by itself, and /run forgets the note. Whoever changes what Muster has set has it from then on.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from muster.base.log import get_logger
from muster.base.metrics import KSM_RUNNING, KSM_SAVED, KSM_SHARED
from muster.host.ksm import Knobs, KsmFiles, KsmMode, KsmTuning, Savings, tuned
from muster.host.machine import RUNTIME
from muster.host.memory import ReadMemory

EVERY_S = 20.0
_NOTE = "ksm.json"
_DAEMON = "ksmtuned"

log = get_logger(__name__)


class Note(Struct, frozen=True, kw_only=True):
    """Whose KSM is: the cloud's folder; how it stood `before`; what Muster has set, the last two times.

    `given_up`: somebody else has changed it since, and has it now.
    """

    folder: str
    before: Knobs
    ours: tuple[Knobs, ...] = ()
    given_up: bool = False


class KsmKeeper:
    """Keeps KSM for the host of the cloud in `folder`. `look` does one round; `run` does them for ever."""

    def __init__(
        self,
        folder: Path,
        mode: KsmMode,
        read_memory: ReadMemory,
        *,
        files: KsmFiles | None = None,
        runtime: Path = RUNTIME,
        proc: Path = Path("/proc"),
    ) -> None:
        self._folder, self._mode, self._read_memory = folder, mode, read_memory
        self._files = files or KsmFiles()
        self._runtime, self._proc = runtime, proc
        self._tuning = KsmTuning()
        self._said = ""

    def measure(self, host: str) -> None:
        """From now on the metrics tell what KSM does on this host, whoever manages it."""
        files = self._files

        def saved(pick: Callable[[Savings], int]) -> Callable[[], float]:
            return lambda: pick(found) if (found := files.savings()) else 0.0

        KSM_RUNNING.labels(host).set_function(lambda: float((knobs := files.knobs()) is not None and knobs.run == 1))
        KSM_SAVED.labels(host).set_function(saved(lambda found: found.saved_bytes))
        KSM_SHARED.labels(host).set_function(saved(lambda found: found.shared_bytes))

    async def run(self) -> None:
        """A round every 20 s. Raises OSError where /run cannot be written."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        """One round: see whose it is, and set it as memory asks for. Blocks a little.

        Raises OSError where /run cannot be written.
        """
        if self._mode is KsmMode.OFF:
            restore(self._folder, files=self._files, runtime=self._runtime)
            return
        knobs, memory = self._files.knobs(), self._read_memory()
        if knobs is None or memory is None:
            self._say("this kernel has no KSM, or does not let it be seen")
            return
        note = read_note(self._runtime)
        if note is not None and note.folder != str(self._folder) and Path(note.folder).exists():
            self._say(f"the cloud in {note.folder} manages KSM")
            return
        wanted = tuned(self._tuning, self._mode, knobs, total_mib=memory.total_mib, available_mib=memory.available_mib)
        if wanted == knobs or not (wanted.run or knobs.run):
            return  # whoever manages it: finding that out takes a look at each process of the machine
        if note is None and (why := self._managed(knobs)):
            self._say(f"KSM is left alone: {why}")
        elif note is None or self._is_still_ours(note, knobs):
            self._set(note, knobs, wanted)

    def _managed(self, knobs: Knobs) -> str | None:
        """Who manages KSM, if it is not Muster."""
        if knobs.run:
            return f"somebody has switched it on (run = {knobs.run})"
        if self._files.tunes_itself():
            return "the kernel's advisor tunes it"
        return f"{_DAEMON} runs" if _runs(_DAEMON, self._proc) else None

    def _is_still_ours(self, note: Note, knobs: Knobs) -> bool:
        if note.given_up:
            return False
        if is_ours(note, knobs) and not _runs(_DAEMON, self._proc):
            return True
        log.warning(
            "somebody else manages KSM now: Muster leaves it alone until it is taken down", action="ksm.given_up"
        )
        _write(self._runtime, msgspec.structs.replace(note, given_up=True))
        return False

    def _set(self, note: Note | None, knobs: Knobs, wanted: Knobs) -> None:
        before = note.before if note is not None else knobs
        new = Note(folder=str(self._folder), before=before, ours=(knobs, wanted))
        if not _write(self._runtime, new, is_first=note is None):
            return  # another cloud was quicker
        try:
            self._files.set(wanted)
        except OSError as error:
            self._say(f"KSM cannot be set here ({error.strerror}); is /sys read-only?")
            return
        if wanted.run != knobs.run:
            log.info("KSM switched", action="ksm.switched", run=wanted.run, pages=wanted.pages_to_scan)

    def _say(self, text: str) -> None:
        """Once, not every round; louder where somebody has asked for it."""
        if text != self._said:
            self._said = text
            (log.warning if self._mode is KsmMode.ON else log.info)(text, action="ksm.left_alone")


def restore(folder: Path, *, files: KsmFiles | None = None, runtime: Path = RUNTIME) -> bool:
    """KSM stands as it did before the cloud in this folder changed it; whether anything was put back.

    What somebody else has changed since is left alone. Raises OSError.
    """
    files = files or KsmFiles()
    note, knobs = read_note(runtime), files.knobs()
    if note is None or note.folder != str(folder):
        return False
    is_due = knobs is not None and not note.given_up and is_ours(note, knobs)
    if is_due:
        files.set(note.before)
    (runtime / _NOTE).unlink(missing_ok=True)
    return is_due


def is_ours(note: Note, knobs: Knobs) -> bool:
    """Whether the knobs stand as Muster has set them, or half-way from one setting to the next."""
    return all(getattr(knobs, name) in {getattr(one, name) for one in note.ours} for name in Knobs.__struct_fields__)


def read_note(runtime: Path = RUNTIME) -> Note | None:
    """Who manages KSM on this machine; None: no cloud of Muster's. What is damaged is none."""
    try:
        return msgspec.json.decode((runtime / _NOTE).read_bytes(), type=Note)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(runtime: Path, note: Note, *, is_first: bool = False) -> bool:
    """Write it as a whole; whether it was written. The first note of a machine takes no other's place."""
    runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = runtime / f"{_NOTE}.{os.getpid()}"
    new.write_bytes(msgspec.json.encode(note))
    if not is_first:
        new.replace(runtime / _NOTE)
        return True
    try:
        os.link(new, runtime / _NOTE)
    except FileExistsError:
        return False
    finally:
        new.unlink()
    return True


def _runs(name: str, proc: Path) -> bool:
    for path in proc.glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() == name:
                return True
        except OSError:  # it has ended meanwhile
            continue
    return False

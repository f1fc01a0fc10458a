"""A lab that is there: what its parts do, and what is done to them. `build` makes it, `takedown` removes it."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from muster.base.errors import Conflict, NotFound, Transient
from muster.lab import network, processes
from muster.lab.parts.registry import runners
from muster.lab.plan import Kind, Part
from muster.lab.processes import Process
from muster.lab.site import Site

READY_S = 240.0
_STOP_S = 60.0
_LOOK_S = 0.1
_TOLD_LINES = 15


class State(StrEnum):
    """How a part is."""

    READY = "ready"
    RUNNING = "running"  # it has processes, but does not (yet) answer
    PAUSED = "paused"
    DOWN = "down"


class PartStatus(Struct, frozen=True, kw_only=True):
    """A part, or one of a part's workers, at a moment; `pid` is that of its first process."""

    name: str
    kind: Kind
    address: str
    state: State
    joined: bool
    pid: int | None
    processes: int


class Lab:
    """The parts of a lab, by name. Workers (`worker-1`) are processes of a control machine, and can be killed, paused
    and resumed; everything else that is done is done to a whole part, as to a machine.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self._runners = runners(site)
        self._parts = {part.name: part for part in site.plan.parts}
        self._machines = {worker: part for part in site.plan.parts for worker in part.workers}

    @property
    def folder(self) -> Path:
        """The lab's folder."""
        return self.site.folder

    @property
    def clouds_yaml(self) -> Path:
        """What OS_CLIENT_CONFIG_FILE is to name; the cloud is called `muster`."""
        return self.folder / "clouds.yaml"

    def part(self, name: str) -> Part:
        """The part of a name. Raises NotFound, which says what names there are."""
        if name in self._machines:
            raise Conflict(
                f"{name} is a process on {self._machines[name].name}, which can be killed or paused, no more"
            )
        if name not in self._parts:
            raise NotFound(f"there is no part {name}; there are: {', '.join([*self._parts, *self._machines])}")
        return self._parts[name]

    # What it does

    def status(self) -> list[PartStatus]:
        """Every part and worker, in the order of the plan. Asks all parts at the same time; some seconds at most."""
        there = network.namespaces(self.site.plan.lab_id)
        joined = network.joined(self.site.plan.lab_id) if "switch" in there else set()
        groups = self._groups()
        with ThreadPoolExecutor(max(1, len(self._parts))) as pool:
            ready = dict(zip(self._parts, pool.map(self._is_ready, self._parts.values()), strict=True))
        rows = []
        for part in self._parts.values():
            group = groups[part.name]
            rows.append(_row(part, part.name, group, ready=ready[part.name], joined=part.name in joined))
            workers = self._workers(part, group)
            for worker in part.workers:
                one = [workers[worker]] if worker in workers else []
                rows.append(_row(part, worker, one, ready=ready[part.name], joined=part.name in joined))
        return rows

    def processes(self, name: str) -> list[Process]:
        """The processes of a part, or the one of a worker. Raises NotFound for an unknown name."""
        machine = self._machines.get(name)
        if machine is None:
            return self._group(self.part(name))
        workers = self._workers(machine, self._group(machine))
        return [workers[name]] if name in workers else []

    # What is done to it

    def kill(self, *names: str) -> int:
        """End them at once (SIGKILL), as a power failure does. Returns how many processes there were."""
        return self._each(names, signal.SIGKILL, wait=True)

    def pause(self, *names: str) -> int:
        """Stop them where they are (SIGSTOP): to others they look like a machine that hangs."""
        return self._each(names, signal.SIGSTOP)

    def resume(self, *names: str) -> int:
        """Let them go on (SIGCONT)."""
        return self._each(names, signal.SIGCONT)

    def stop(self, *names: str) -> int:
        """Let them end in their own way (SIGTERM); what does not within a minute is killed."""
        return sum(self._stop(self.part(name)) for name in names)

    def start(self, *names: str, wait: bool = True) -> None:
        """Start parts that are down, and wait until they are ready. Raises Conflict when one runs, Transient."""
        chosen = [self.part(name) for name in names]
        for part in chosen:
            if self._group(part):
                raise Conflict(f"{part.name} runs already")
        for part in chosen:
            processes.start(self.site.namespace(part), self._runners[part.kind].launch(self.site, part))
        if wait:
            for part in chosen:
                self.await_ready(part)

    def restart(self, *names: str) -> None:
        """`stop`, then `start`."""
        self.stop(*names)
        self.start(*names)

    def cut(self, *names: str) -> None:
        """Pull their cables: whatever is sent by them or to them vanishes, and nobody is told."""
        for part in [self.part(name) for name in names]:
            network.cut(self.site.plan.lab_id, part.name)

    def join(self, *names: str) -> None:
        """Plug them in again, at full speed."""
        for part in [self.part(name) for name in names]:
            network.join(self.site.plan.lab_id, part.name)
            network.slow(self.site.plan.lab_id, part.name, None)

    def slow(self, kbit_s: int, *names: str) -> None:
        """Let no more than so many kilobits per second through to each and from each, until it is joined again."""
        for part in [self.part(name) for name in names]:
            network.slow(self.site.plan.lab_id, part.name, kbit_s)

    def start_first(self, part: Part, should_end: Callable[[], bool]) -> None:
        """Start a part for the first time; returns when it is ready. Raises Transient, Unsupported."""
        runner = self._runners[part.kind]
        self.site.part_folder(part).mkdir(mode=0o700)
        runner.prepare(self.site, part)
        processes.start(self.site.namespace(part), runner.launch(self.site, part))
        self.await_ready(part, should_end)
        runner.complete(self.site, part)

    def await_ready(self, part: Part, should_end: Callable[[], bool] = lambda: False) -> None:
        """Wait until a part is ready. Raises Transient, with the end of its log, when it ends instead or hangs."""
        deadline = time.monotonic() + READY_S
        while not self._is_ready(part):
            if should_end():
                raise Transient("interrupted")
            if not self._group(part):
                raise Transient(f"{part.name} has ended:\n{self._last_words(part)}")
            if time.monotonic() > deadline:
                raise Transient(f"{part.name} is not ready within {READY_S:.0f} s:\n{self._last_words(part)}")
            time.sleep(_LOOK_S)

    # How

    def _each(self, names: Sequence[str], number: signal.Signals, *, wait: bool = False) -> int:
        groups = [(name, self.processes(name)) for name in names]
        count = 0
        for name, group in groups:
            if not group:
                raise Conflict(f"{name} is down")
            processes.send(group, number)
            count += len(group)
        if wait:
            for name, group in groups:
                if not processes.await_end(group, _STOP_S):
                    raise Transient(f"{name} does not end")
        return count

    def _stop(self, part: Part) -> int:
        """Only its first process is told: it knows what to do with the others."""
        group = self._group(part)
        if not group:
            raise Conflict(f"{part.name} is down")
        processes.send(group[:1], self._runners[part.kind].stop_signal)
        processes.send(group, signal.SIGCONT)
        processes.await_end(group[:1], _STOP_S)
        number = processes.number_of(network.namespaces(self.site.plan.lab_id)[part.name])
        processes.kill_all([number] if number is not None else [])  # what it left, such as RabbitMQ's port mapper
        return len(group)

    def _is_ready(self, part: Part) -> bool:
        with contextlib.suppress(Transient):
            return self._runners[part.kind].is_ready(self.site, part)
        return False

    def _group(self, part: Part) -> list[Process]:
        return self._groups([part])[part.name]

    def _groups(self, parts: Iterable[Part] | None = None) -> dict[str, list[Process]]:
        there = network.namespaces(self.site.plan.lab_id)
        names = [part.name for part in (self._parts.values() if parts is None else parts)]
        numbers = {name: processes.number_of(there[name]) if name in there else None for name in names}
        found = processes.found(number for number in numbers.values() if number is not None)
        return {name: found.get(number, []) if number is not None else [] for name, number in numbers.items()}

    def _workers(self, part: Part, group: list[Process]) -> dict[str, Process]:
        """The supervisor's children by worker: each is told its number. Of two, one of which replaces the other, the
        younger.
        """
        found = {}
        for process in group if part.workers else []:
            words = processes.arguments(process)
            if process.parent == group[0].pid and "--index" in words:
                index = int(words[words.index("--index") + 1])
                found[part.workers[index]] = process
        return found

    def _last_words(self, part: Part) -> str:
        path = self.site.log(part)
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join(f"  {line}" for line in lines[-_TOLD_LINES:]) or f"  (nothing in {path})"


def _row(part: Part, name: str, group: list[Process], *, ready: bool, joined: bool) -> PartStatus:
    if not group:
        state = State.DOWN
    elif group[0].is_paused:
        state = State.PAUSED
    else:
        state = State.READY if ready else State.RUNNING
    return PartStatus(
        name=name,
        kind=part.kind,
        address=part.address,
        state=state,
        joined=joined,
        pid=group[0].pid if group else None,
        processes=len(group),
    )

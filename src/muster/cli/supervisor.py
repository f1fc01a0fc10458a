"""Keeps worker processes running on one listening socket, and replaces them without refusing a connection.

Invariants: the socket is open here until this process is told to end, so a connection made while no worker accepts
waits in the kernel's queue; a worker is never ended before the one that replaces it is ready, unless it stands still;
no worker outlives this process (each watches the other end of its standard input).
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Sequence

from muster.base.errors import Invalid
from muster.base.log import get_logger
from muster.base.tasks import to_its_end

log = get_logger(__name__)

#: What a worker writes to its standard output when it answers.
READY = "ready"
#: What it writes every BEAT_S while its event loop goes round.
ALIVE = "alive"
BEAT_S = 2.0
#: The exit status of a worker that would not do better if it were started again (sysexits.h).
MISCONFIGURED = 78
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_GOOD_AFTER_S = 60.0
# Beyond the time that a worker gives what it is answering: for what closes after that.
_END_GRACE_S = 15.0


class _Worker:
    """One process. `ready` is set when it answers, or when it has ended without."""

    def __init__(self, process: asyncio.subprocess.Process, on_ready: Callable[[], None], hang_s: float) -> None:
        self.process = process
        self.is_ready = False
        self.ready = asyncio.Event()
        self._on_ready = on_ready
        self._hang_s = hang_s
        self._heard = False
        self.watch = asyncio.create_task(self._watch(), name=f"worker {process.pid}")

    async def _watch(self) -> None:
        """Hear what it writes until it ends; from its first sign of life on, end it when these stay away."""
        assert self.process.stdout is not None  # noqa: S101 - for the type checker: it was asked for
        beats: asyncio.Task[None] | None = None
        async for line in self.process.stdout:
            word = line.decode(errors="replace").strip()
            self._heard = True
            if word == ALIVE and beats is None and self._hang_s:
                beats = asyncio.create_task(self._await_beats(), name=f"beats of {self.process.pid}")
            if word == READY:
                self.is_ready = True
                self.ready.set()
                self._on_ready()
        if beats is not None:
            beats.cancel()
        self.ready.set()
        await self.process.wait()  # that it writes no more is not yet its end

    async def _await_beats(self) -> None:
        """Kill it after `hang_s` without a sign of life.

        What is counted is how often we looked in vain: if this process, or the whole machine, stood still as well, then
        that was one look, however long it took.
        """
        silent_s = 0.0
        while silent_s < self._hang_s:
            await asyncio.sleep(BEAT_S)
            silent_s = 0.0 if self._heard else silent_s + BEAT_S
            self._heard = False
        log.error("a worker stands still and is killed", action="worker.hung", pid=self.process.pid, silent_s=silent_s)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def end(self, within_s: float) -> None:
        """Told to end, and ended: by force when it takes too long."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(within_s):
                await self.process.wait()
        except TimeoutError:
            log.error("a worker did not end in time", action="worker.killed", pid=self.process.pid)
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        await self.watch


class _Slot:
    """A worker's place. Whoever puts one there has the `turn`, so that none is forgotten."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.worker: _Worker | None = None
        self.turn = asyncio.Lock()


class Supervisor:
    """`count` workers, started by the command that `command_of` gives for each index, with the socket `listener`.

    One that gives no sign of life for `hang_s` (0: however long) is killed, and started again.
    """

    def __init__(
        self,
        command_of: Callable[[int], Sequence[str]],
        count: int,
        listener: socket.socket,
        *,
        drain_s: float,
        hang_s: float,
    ) -> None:
        self._command_of = command_of
        self._listener = listener
        self._end_within_s = drain_s + _END_GRACE_S
        self._hang_s = hang_s
        self._slots = [_Slot(index) for index in range(count)]
        self._workers: set[_Worker] = set()  # all that may still run
        self._ending = asyncio.Event()
        self._refused = False
        self._replacing: set[asyncio.Task[None]] = set()
        self._replacement = asyncio.Lock()
        self._announce: Callable[[], None] | None = None

    def end(self) -> None:
        """`run` ends the workers, and ends."""
        self._ending.set()

    def replace(self) -> None:
        """Replace the workers, one after the other, while `run` runs; asked again meanwhile, once more after that."""
        task = asyncio.create_task(self._replace_in_turn(), name="replace workers")
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Until `end` is called; then the socket is closed. `on_ready` is called once, when all workers answer.

        Raises Invalid when a worker says, before that, that it cannot serve with these settings: it has said why.
        """
        self._announce = on_ready
        keepers = [asyncio.create_task(self._keep(slot), name=f"slot {slot.index}") for slot in self._slots]
        await self._ending.wait()
        tasks = [*keepers, *self._replacing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()  # else connections would be made that nobody is going to accept
        await asyncio.gather(*(worker.end(self._end_within_s) for worker in list(self._workers)))
        if self._refused:
            raise Invalid("The workers cannot serve with these settings; see above.")

    def _heard(self) -> None:
        """A worker has come to answer, or one that may have has got its place."""
        if self._announce and all(slot.worker is not None and slot.worker.is_ready for slot in self._slots):
            self._announce()
            self._announce = None

    async def _keep(self, slot: _Slot) -> None:
        """There is always a worker in the slot; pauses between two that end get longer."""
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            began = loop.time()
            status = await self._one(slot)
            if status is None:
                continue
            if status == MISCONFIGURED and self._announce is not None:
                self._refused = True
                self._ending.set()
                return
            if loop.time() - began > _GOOD_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            log.error("a worker has ended", action="worker.ended", index=slot.index, status=status, again_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)

    async def _one(self, slot: _Slot) -> int | str | None:
        """The end of the slot's worker, which is started if there is none; None if another has taken its place."""
        try:
            async with slot.turn:
                if slot.worker is None or slot.worker.process.returncode is not None:
                    slot.worker = await self._started(slot.index)
                    self._heard()  # it may have come to answer before it had its place
                worker = slot.worker
        except OSError as error:
            return f"not started: {error.strerror}"
        status = await worker.process.wait()
        return status if slot.worker is worker else None

    async def _started(self, index: int) -> _Worker:
        """A new worker. Who is cancelled meanwhile leaves one that is known, not one that nobody ends."""
        return await to_its_end(self._start(index))

    async def _start(self, index: int) -> _Worker:
        process = await asyncio.create_subprocess_exec(
            *self._command_of(index),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(self._listener.fileno(),),
        )
        worker = _Worker(process, self._heard, self._hang_s)
        self._workers.add(worker)
        worker.watch.add_done_callback(lambda _: self._workers.discard(worker))
        return worker

    async def _replace_in_turn(self) -> None:
        async with self._replacement:
            await self._replace_all()

    async def _replace_all(self) -> None:
        """One after the other; if a new one does not come to answer, the old ones stay."""
        for slot in self._slots:
            try:
                new = await self._started(slot.index)
            except OSError as error:
                log.error(
                    "workers not replaced: the old ones serve on",
                    action="workers.kept",
                    index=slot.index,
                    error=error.strerror,
                )
                return
            await new.ready.wait()
            if not new.is_ready:
                log.error(
                    "workers not replaced: a new one did not start, and has said why; the old ones serve on",
                    action="workers.kept",
                    index=slot.index,
                )
                return
            async with slot.turn:
                old, slot.worker = slot.worker, new
            self._heard()
            if old is not None:
                await old.end(self._end_within_s)
        log.warning("workers replaced", action="workers.replaced", count=len(self._slots))

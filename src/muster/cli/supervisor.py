"""Keeps worker processes running on one listening socket, and replaces them without refusing a connection.

Invariants: the socket is open here until this process is told to end, so a connection made while no worker accepts
waits in the kernel's queue; a worker is never ended before the one that replaces it is ready; no worker outlives this
process (each watches the other end of its standard input).
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Sequence

from muster.base.errors import Invalid
from muster.base.log import get_logger

log = get_logger(__name__)

#: What a worker writes to its standard output when it answers.
READY = "ready"
#: The exit status of a worker that would not do better if it were started again (sysexits.h).
MISCONFIGURED = 78
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_GOOD_AFTER_S = 60.0
# Beyond the time that a worker gives what it is answering: for what closes after that.
_END_GRACE_S = 15.0


class _Worker:
    """One process. `ready` is set when it answers, or when it has ended without."""

    def __init__(self, process: asyncio.subprocess.Process, on_ready: Callable[[], None]) -> None:
        self.process = process
        self.is_ready = False
        self.ready = asyncio.Event()
        self._on_ready = on_ready
        self.watch = asyncio.create_task(self._await_ready(), name=f"worker {process.pid}")

    async def _await_ready(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 - for the type checker: it was asked for
        async for line in self.process.stdout:
            if line.decode(errors="replace").strip() == READY:
                self.is_ready = True
                self.ready.set()
                self._on_ready()
        self.ready.set()

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
    """A worker's place: who has it, and who may give it to another."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.worker: _Worker | None = None
        self.turn = asyncio.Lock()


class Supervisor:
    """`count` workers, started by the command that `command_of` gives for each index, with the socket `listener`."""

    def __init__(
        self, command_of: Callable[[int], Sequence[str]], count: int, listener: socket.socket, *, drain_s: float
    ) -> None:
        self._command_of = command_of
        self._listener = listener
        self._end_within_s = drain_s + _END_GRACE_S
        self._slots = [_Slot(index) for index in range(count)]
        self._workers: set[_Worker] = set()  # all that may still run
        self._ending = asyncio.Event()
        self._refused = False
        self._announce: Callable[[], None] | None = None

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Until SIGTERM or SIGINT; SIGHUP replaces the workers. `on_ready` is called once, when all workers answer.

        Raises Invalid when a worker says that it cannot serve with these settings: it has said why.
        """
        loop = asyncio.get_running_loop()
        self._announce = on_ready
        replacing: set[asyncio.Task[None]] = set()

        def replace() -> None:
            task = asyncio.create_task(self._replace_all(), name="replace workers")
            replacing.add(task)
            task.add_done_callback(replacing.discard)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        loop.add_signal_handler(signal.SIGHUP, replace)
        keepers = [asyncio.create_task(self._keep(slot), name=f"slot {slot.index}") for slot in self._slots]
        await self._ending.wait()
        tasks = [*keepers, *replacing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()  # else connections would be made that nobody is going to accept
        await asyncio.gather(*(worker.end(self._end_within_s) for worker in list(self._workers)))
        if self._refused:
            raise Invalid("The workers cannot serve with these settings; see above.")

    def _heard(self) -> None:
        """A worker has come to answer."""
        if self._announce and all(slot.worker is not None and slot.worker.is_ready for slot in self._slots):
            self._announce()
            self._announce = None

    async def _keep(self, slot: _Slot) -> None:
        """There is always a worker in the slot; pauses between two that end get longer."""
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            began = loop.time()
            async with slot.turn:
                if slot.worker is None or slot.worker.process.returncode is not None:
                    slot.worker = await self._started(slot.index)
                worker = slot.worker
            status = await worker.process.wait()
            if slot.worker is not worker:  # it was replaced
                continue
            if status == MISCONFIGURED and not worker.is_ready:
                self._refused = True
                self._ending.set()
                return
            if loop.time() - began > _GOOD_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            log.error("a worker has ended", action="worker.ended", index=slot.index, status=status, again_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)

    async def _started(self, index: int) -> _Worker:
        process = await asyncio.create_subprocess_exec(
            *self._command_of(index),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(self._listener.fileno(),),
        )
        worker = _Worker(process, self._heard)
        self._workers.add(worker)
        worker.watch.add_done_callback(lambda _: self._workers.discard(worker))
        return worker

    async def _replace_all(self) -> None:
        """One after the other; if a new one does not come to answer, the old ones stay."""
        for slot in self._slots:
            async with slot.turn:
                old, new = slot.worker, await self._started(slot.index)
                await new.ready.wait()
                if not new.is_ready:
                    log.error("workers not replaced: a new one did not start", action="workers.kept", index=slot.index)
                    return
                slot.worker = new
                self._heard()
            if old is not None:
                await old.end(self._end_within_s)
        log.warning("workers replaced", action="workers.replaced", count=len(self._slots))

"""How many connections a worker takes on: it is full until half of them are left; who is slow is not counted."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from muster.cli import intake as module
from muster.cli.intake import Intake, share

AT_ONCE = 4
CLIENTS = 3 * AT_ONCE


class Listener(socket.socket):
    """Refuses to accept with these errors before it accepts."""

    refusals: tuple[int, ...] = ()

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if self.refusals:
            first, *rest = self.refusals
            self.refusals = tuple(rest)
            raise OSError(first, "refused")
        return super().accept()


class Accepted(asyncio.Protocol):
    """A connection that the worker has taken."""

    transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None


class Worker:
    """Takes from a socket to which all clients have connected."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.accepted: list[Accepted] = []
        self.intake = Intake(AT_ONCE)

    async def begin(self) -> None:
        self.intake.accept(self.listener, self._protocol)
        await self.turns()

    async def answer(self, *places: int) -> None:
        for place in places:
            self.intake.end(self.accepted[place])
        await self.turns()

    async def turns(self) -> None:
        """Enough of the event loop for all that can be accepted."""
        for _ in range(10):
            await asyncio.sleep(0)

    async def close(self) -> None:
        """No connection is open any more."""
        self.intake.close()
        async with asyncio.timeout(300):
            while self.intake._connecting or any(one.transport for one in self.accepted):
                for one in self.accepted:
                    if one.transport is not None:
                        one.transport.close()
                await self.turns()

    def _protocol(self) -> asyncio.Protocol:
        self.accepted.append(Accepted())
        return self.accepted[-1]


@pytest_asyncio.fixture
async def worker() -> AsyncIterator[Worker]:
    with Listener(socket.AF_INET) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(CLIENTS)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(CLIENTS)]
        worker = Worker(listener)
        yield worker
        await worker.close()
        for client in clients:
            client.close()


def test_workers_share_what_a_machine_takes_on() -> None:
    assert [share(workers) for workers in (1, 2, 4, 8, 256)] == [1024, 512, 256, 256, 256]


async def test_it_is_full_until_half_is_left(worker: Worker) -> None:
    await worker.begin()
    assert len(worker.accepted) == AT_ONCE
    await worker.answer(0)
    assert len(worker.accepted) == AT_ONCE
    await worker.answer(1)
    assert len(worker.accepted) == AT_ONCE + 2


async def test_a_connection_that_asks_more_counts_once(worker: Worker) -> None:
    await worker.begin()
    worker.intake.begin(worker.accepted[0])
    await worker.answer(0, 0, 1)
    assert len(worker.accepted) == AT_ONCE + 2


async def test_a_kept_connection_counts_when_it_asks(worker: Worker) -> None:
    await worker.begin()
    kept = worker.accepted[:2]
    await worker.answer(2)
    for one in kept:
        worker.intake.end(one)
        worker.intake.begin(one)
    worker.intake.begin(worker.accepted[2])
    await worker.turns()
    assert len(worker.accepted) == AT_ONCE, "they were answered in the same turn as they asked again"


async def test_who_is_slow_is_not_counted(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REST_S", 0.0)
    await worker.begin()
    async with asyncio.timeout(300):
        while len(worker.accepted) < CLIENTS:
            await worker.turns()


async def test_at_its_end_it_accepts_what_has_connected_and_nothing_more(worker: Worker) -> None:
    await worker.begin()
    address = worker.listener.getsockname()
    worker.intake.close()
    assert len(worker.accepted) == CLIENTS
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
    await worker.answer(*range(CLIENTS))
    assert len(worker.accepted) == CLIENTS


async def test_a_connection_that_was_gone_again_is_passed_over(worker: Worker) -> None:
    worker.listener.refusals = (errno.ECONNABORTED, errno.EPERM)
    await worker.begin()
    assert len(worker.accepted) == AT_ONCE


async def test_without_files_to_open_it_tries_again(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.05)
    worker.listener.refusals = (errno.EMFILE,)
    await worker.begin()
    assert worker.accepted == []
    async with asyncio.timeout(300):
        while len(worker.accepted) < AT_ONCE:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("is_full", [True, False])
async def test_at_its_end_without_files_to_open_it_goes_on_once_there_are_some(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.05)
    worker.listener.refusals = () if is_full else (errno.EMFILE,)
    await worker.begin()
    before = len(worker.accepted)
    worker.listener.refusals = (errno.EMFILE, errno.ENFILE)
    worker.intake.close()
    assert len(worker.accepted) == before
    await worker.answer(*range(before))
    async with asyncio.timeout(60):
        await worker.intake.emptied()
    assert len(worker.accepted) == CLIENTS


async def test_who_does_not_wait_for_its_end_accepts_nothing_more(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.05)
    await worker.begin()
    worker.listener.refusals = (errno.EMFILE,)
    worker.intake.close()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await worker.intake.emptied()
    await asyncio.sleep(0.2)
    assert len(worker.accepted) == AT_ONCE


async def test_a_connection_that_cannot_be_taken_over_is_closed_and_counted_no_more(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[socket.socket] = []

    async def refuse(_protocol: object, accepted: socket.socket) -> None:
        refused.append(accepted)
        raise OSError(errno.ENOTCONN, "it was gone again")

    monkeypatch.setattr(asyncio.get_running_loop(), "connect_accepted_socket", refuse)
    await worker.begin()
    await worker.turns()
    assert len(refused) == CLIENTS, "none of them filled the worker"
    assert {accepted.fileno() for accepted in refused} == {-1}

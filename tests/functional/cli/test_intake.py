"""Workers on one socket: each takes on no more than it should, and leaves the rest to those that answer."""

import asyncio
import errno
import socket
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import AbstractAsyncContextManager

import pytest
from starlette.types import Receive, Scope, Send

from muster.cli import intake
from muster.cli.listening import listening
from tests.commands import HANG_S, started

AT_ONCE = 8
# Says for each request that it has come, and answers them all once it is told to.
WORKER = """
import asyncio, socket, sys
import uvloop
from muster.cli import intake
from muster.cli.listening import listening
from tests.commands import HANG_S, started

intake.REST_S = 1e6

async def main(told):
    async def application(scope, receive, send):
        print("asked", flush=True)
        await told.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    with socket.socket(fileno=int(sys.argv[1])) as listener:
        async with listening(application, listener, drain_s=0.0, at_once=int(sys.argv[2])):
            await asyncio.to_thread(sys.stdin.readline)
            told.set()
            await asyncio.Event().wait()

uvloop.run(main(asyncio.Event()))
"""


async def test_a_worker_that_is_killed_takes_few_requests_with_it() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        clients = [await _asking(listener.getsockname()) for _ in range(10 * AT_ONCE)]
        async with _worker(listener) as first, _worker(listener) as second, asyncio.timeout(HANG_S):
            for worker in (first, second):
                await _asked(worker, AT_ONCE)
            first.kill()
            await first.wait()
            assert second.stdin is not None
            second.stdin.write(b"answer\n")
            answers = await asyncio.gather(*(_answer(reader) for reader, _ in clients))
        for _, writer in clients:
            writer.close()
    lost = answers.count("")
    assert lost == AT_ONCE
    assert answers.count("HTTP/1.1 200 OK") == len(clients) - lost, "the other answers all that waited in the kernel"


async def test_silent_clients_shut_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "REST_S", 0.05)

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        async with listening(application, listener, drain_s=0.0, at_once=AT_ONCE), asyncio.timeout(HANG_S):
            silent = [await asyncio.open_connection(*address) for _ in range(3 * AT_ONCE)]
            reader, writer = await _asking(address)
            assert await _answer(reader) == "HTTP/1.1 200 OK"
            for _, one in [*silent, (reader, writer)]:
                one.close()


async def test_a_full_worker_that_is_to_end_answers_all_who_have_connected() -> None:
    asked, told, leaving = 0, asyncio.Event(), asyncio.Event()

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal asked
        asked += 1
        await told.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def serve(listener: socket.socket) -> None:
        async with listening(application, listener, drain_s=HANG_S, at_once=AT_ONCE):
            await leaving.wait()

    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        clients = [await _asking(listener.getsockname()) for _ in range(3 * AT_ONCE)]
        async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
            group.create_task(serve(listener))
            while asked < AT_ONCE:
                await asyncio.sleep(0.01)
            leaving.set()
            told.set()
            answers = await asyncio.gather(*(_answer(reader) for reader, _ in clients))
    assert answers == ["HTTP/1.1 200 OK"] * len(clients)
    for _, writer in clients:
        writer.close()


class Short(socket.socket):
    """There is no file to be opened for who connects, while `is_short`."""

    is_short = False
    refused = 0

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if self.is_short:
            self.refused += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_a_worker_without_files_to_open_that_is_to_end_answers_all_who_have_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intake, "_AGAIN_S", 0.05)
    leaving = asyncio.Event()

    async def application(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def serve(listener: socket.socket) -> None:
        async with listening(application, listener, drain_s=HANG_S, at_once=AT_ONCE):
            await leaving.wait()

    with Short(socket.AF_INET) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        listener.is_short = True
        clients = [await _asking(listener.getsockname()) for _ in range(3 * AT_ONCE)]
        async with asyncio.timeout(HANG_S), asyncio.TaskGroup() as group:
            serving = group.create_task(serve(listener))
            while not listener.refused:
                await asyncio.sleep(0.01)
            leaving.set()
            before = listener.refused
            while listener.refused < before + 5 and not serving.done():
                await asyncio.sleep(0.01)
            listener.is_short = False
            answers = await asyncio.gather(*(_answer(reader) for reader, _ in clients))
    assert answers == ["HTTP/1.1 200 OK"] * len(clients)
    for _, writer in clients:
        writer.close()


def _worker(listener: socket.socket) -> AbstractAsyncContextManager[Process]:
    number = listener.fileno()
    arguments = (sys.executable, "-c", WORKER, str(number), str(AT_ONCE))
    return started(*arguments, stdin=PIPE, stdout=PIPE, pass_fds=(number,))


async def _asking(address: tuple[str, int]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which a request has been sent, though nobody has accepted it."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    await writer.drain()
    return reader, writer


async def _asked(worker: Process, count: int) -> None:
    assert worker.stdout is not None
    for _ in range(count):
        assert await worker.stdout.readline() == b"asked\n"


async def _answer(reader: asyncio.StreamReader) -> str:
    """Its first line; empty for a connection that broke."""
    try:
        return (await reader.readline()).decode().strip()
    except ConnectionError:
        return ""

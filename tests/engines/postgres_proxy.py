"""A link to PostgreSQL that breaks at a COMMIT: before the server hears of it, or before its answer is heard."""

import asyncio
import contextlib
from enum import Enum
from pathlib import Path

from benchmarks.free_ports import free_port
from tests.serving import accepting_no_more, ended

# A query of the simple protocol: type, length, text, zero byte (PostgreSQL's documentation, "Message Formats").
_COMMIT = b"Q\x00\x00\x00\x0cCOMMIT;\x00"


class At(Enum):
    """Where a link breaks."""

    NOWHERE = "nowhere"
    BEFORE_COMMIT = "before"  # the server never hears of it
    AFTER_COMMIT = "after"  # the server has answered, and the answer is lost
    WITH_COMMIT = "with"  # it is sent, and the link breaks at once: the server may or may not take it in
    SILENT_BEFORE = "silent before"  # the link stays open but is dead from there on: the server does not know
    SILENT_AFTER = "silent after"


class CommitProxy:
    """Listens on `port` for one server, whose socket is in a directory. `at` may be changed at any time."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.at = At.NOWHERE
        self.broken = 0
        self._closed = False
        self._socket = directory / ".s.PGSQL.5432"
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._links: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def close(self) -> None:
        self._closed = True
        if self._server is not None:
            await accepting_no_more(*self._server.sockets)
        tasks = list(self._links)
        for task in tasks:
            task.cancel()
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await ended(self._server, self._writers)

    def url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def cut(self) -> None:
        """Reset all links."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there = await asyncio.open_unix_connection(str(self._socket))
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(there[1])
        if writer.transport.is_closing() or self._closed:
            writer.transport.abort()
            there[1].transport.abort()
            return
        link = _Link(client=writer, server=there[1])
        for work in (self._to_server(reader, link), self._to_client(there[0], link)):
            task = asyncio.create_task(work)
            self._links.add(task)
            task.add_done_callback(self._links.discard)

    async def _to_server(self, reader: asyncio.StreamReader, link: "_Link") -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                at = self.at if data.endswith(_COMMIT) else At.NOWHERE
                if link.dead.is_set():
                    continue
                self.broken += at is not At.NOWHERE
                if at in (At.AFTER_COMMIT, At.SILENT_BEFORE, At.SILENT_AFTER):
                    link.dead.set()  # nothing comes back
                if at not in (At.BEFORE_COMMIT, At.SILENT_BEFORE):
                    link.server.write(data)
                    await link.server.drain()
                if at is At.AFTER_COMMIT:
                    await link.answered.wait()
                if at in (At.BEFORE_COMMIT, At.AFTER_COMMIT, At.WITH_COMMIT):
                    break
            else:
                if link.dead.is_set():
                    return  # the client has gone, and the server does not hear of it
        link.client.transport.abort()
        link.server.transport.abort()

    async def _to_client(self, reader: asyncio.StreamReader, link: "_Link") -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if link.dead.is_set():
                    link.answered.set()
                else:
                    link.client.write(data)
                    await link.client.drain()
        link.answered.set()  # nothing more comes
        if not link.dead.is_set():
            link.client.transport.abort()


class _Link:
    """One connection's two ends. `dead`: nothing comes back to the client; `answered`: the server has, since then."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.dead, self.answered = asyncio.Event(), asyncio.Event()

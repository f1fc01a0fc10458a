"""A link between a client and a server on loopback that can be cut, or fall silent without a word."""

import asyncio
import contextlib

from benchmarks.free_ports import free_port
from tests.serving import accepting_no_more, ended


class Proxy:
    """Listens on `port` and passes everything on to `target`, while it is told to."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._links: set[asyncio.Task[None]] = set()
        self._coming: set[asyncio.Task[None]] = set()  # that are being connected
        self._passes = asyncio.Event()
        self._passes.set()
        self.links_made = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    def cut(self) -> None:
        """Reset all connections; new ones are taken."""
        for writer in self._writers:
            writer.transport.abort()

    def silence(self) -> None:
        """Whatever is sent from now on vanishes, and nobody is told; also on new connections."""
        self._passes.clear()

    def speak(self) -> None:
        """Pass on again; old connections stay silent, as behind a firewall that has forgotten them."""
        for task in self._links:
            task.cancel()
        self._links.clear()
        self._passes.set()

    async def close(self) -> None:
        if self._server is not None:
            await accepting_no_more(*self._server.sockets)
        tasks = [*self._links, *self._coming]
        for task in tasks:
            task.cancel()
        self.cut()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._server is not None:
            await ended(self._server, self._writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        coming = asyncio.current_task()
        assert coming is not None
        self._coming.add(coming)
        coming.add_done_callback(self._coming.discard)
        self.links_made += 1
        self._writers.add(writer)
        await self._passes.wait()
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(there[1])
        for source, sink in ((reader, there[1]), (there[0], writer)):
            task = asyncio.create_task(self._pass_on(source, sink))
            self._links.add(task)

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                await self._passes.wait()
                sink.write(data)
                await sink.drain()
        sink.transport.abort()

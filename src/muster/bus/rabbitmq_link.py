"""A connection to RabbitMQ that is made again, at one broker or the next, whenever it is lost.

Invariants: who reconnects waits a little longer each time and never in step with others; a connection on which nothing
comes through is noticed, by TCP and by heartbeats, also when a firewall has forgotten it; credentials appear in no log
and no error; errors of the client library leave here as Transient.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable
from random import Random
from typing import Any, TypeVar

import aiormq
from aiormq.abc import AbstractConnection
from aiormq.connection import TransportFactory
from aiormq.exceptions import AMQPError
from pamqp.exceptions import PAMQPException
from yarl import URL

from muster.base.errors import Transient
from muster.base.log import get_logger
from muster.base.tcp import notice_silence
from muster.bus.absence import Absence
from muster.bus.rabbitmq_settings import RabbitSettings

log = get_logger(__name__)

Result = TypeVar("Result")

_FIRST_PAUSE_S = 0.2


class Link:
    """One connection. Made and used on one event loop."""

    def __init__(self, settings: RabbitSettings, name: str, rng: Random) -> None:
        """`name` is what RabbitMQ lists the connection as."""
        self.absence = Absence(time.monotonic)
        self._settings = settings
        self._name = name
        self._rng = rng
        self._endpoint = rng.randrange(len(settings.endpoints))
        self._connection: AbstractConnection | None = None
        self._up = asyncio.Event()
        self._told: set[str] = set()
        self._task = asyncio.create_task(self._keep(), name=f"rabbitmq {name}")

    async def up(self) -> AbstractConnection:
        """The connection; waits until there is one."""
        while self._connection is None or not self._connection.is_opened:
            self._up.clear()
            await self._up.wait()
        return self._connection

    async def soon(self) -> AbstractConnection:
        """The connection; waits for one for `connect_s`. Raises Transient."""
        try:
            async with asyncio.timeout(self._settings.connect_s):
                return await self.up()
        except TimeoutError as error:
            raise Transient("The message bus cannot be reached", retry_after_s=1.0) from error

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                connection = await self._connect()
            except Transient as error:
                self.absence.begin()
                self._tell_why(error.message)
                self._endpoint = (self._endpoint + 1) % len(self._settings.endpoints)
                await asyncio.sleep(pause_s * self._rng.uniform(0.5, 1.0))
                pause_s = min(2 * pause_s, self._settings.backoff_s)
                continue
            pause_s = _FIRST_PAUSE_S
            await self._hold(connection)
            await asyncio.sleep(pause_s * self._rng.random())

    async def _hold(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self.absence.end()
        self._up.set()
        tell = log.warning if self._told else log.info  # as loud as that there was none
        tell("connected", action="bus.connected", broker=self._broker, name=self._name)
        self._told.clear()
        try:
            await asyncio.wait({connection.closing})
            log.warning("connection lost", action="bus.lost", broker=self._broker, name=self._name)
            self._told.add("lost")
        finally:
            self._connection = None
            self.absence.begin()
            with contextlib.suppress(Transient, TimeoutError):
                async with asyncio.timeout(self._settings.connect_s):
                    await told(connection.close())

    def _tell_why(self, error: str) -> None:
        """Each broker and reason once, however long it is away: there are many links, and hours."""
        why = f"{self._broker}: {error}"
        if why not in self._told:
            self._told.add(why)
            log.warning("no connection", action="bus.connect", broker=self._broker, error=error)

    async def _connect(self) -> AbstractConnection:
        context = await asyncio.to_thread(self._settings.tls_context)
        connecting = aiormq.connect(
            self._settings.broker_url(self._broker),
            context=context,
            transport_factory=_Sockets(self._settings.silence_s),
            client_properties={"connection_name": self._name},
        )
        try:
            async with asyncio.timeout(self._settings.connect_s):
                return await told(connecting)
        except TimeoutError as error:
            raise Transient("no answer in time") from error

    @property
    def _broker(self) -> str:
        return self._settings.endpoints[self._endpoint]


class _Sockets(TransportFactory):
    """Opens sockets that notice a silent peer: keepalive while idle, and a time limit on what is sent."""

    def __init__(self, silence_s: int) -> None:
        self._silence_s = silence_s

    async def create(self, url: URL, **kwargs: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = await kwargs["ssl_context_provider"].get_context() if url.scheme == "amqps" else None
        reader, writer = await asyncio.open_connection(url.host, url.port, ssl=context)
        notice_silence(writer.get_extra_info("socket"), self._silence_s)
        return reader, writer


async def told(call: Awaitable[Result]) -> Result:
    """What the client library's `call` returns; its failures are Transient.

    A connection that breaks cancels what waits on it. To whoever called that must not look like a cancellation.
    """
    [outcome] = await asyncio.gather(call, return_exceptions=True)
    if isinstance(outcome, asyncio.CancelledError | AMQPError | PAMQPException | OSError | RuntimeError):
        raise Transient(f"RabbitMQ: {type(outcome).__name__}", retry_after_s=1.0) from outcome
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome

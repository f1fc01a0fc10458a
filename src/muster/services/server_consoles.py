"""What servers wrote to their consoles: asked of their hosts over the bus, and waited for."""

import asyncio

import msgspec

from muster.base.errors import Conflict, Transient
from muster.base.ids import new_uuid
from muster.base.log import get_logger
from muster.bus.protocol import Bus
from muster.domain.context import Context
from muster.domain.messages import ConsoleReply, ConsoleRequest, decode, encode, host_topic
from muster.services.servers import Servers

log = get_logger(__name__)

LINES_MAX = 1_000_000


class ServerConsoles:
    """The use case of console output. `run` must be running as a task; each process has a topic of its own."""

    def __init__(self, servers: Servers, bus: Bus, timeout_s: float = 20.0) -> None:
        self._servers = servers
        self._bus = bus
        self._timeout_s = timeout_s
        self._topic = f"console.{new_uuid()}"
        self._waiting: dict[str, asyncio.Future[ConsoleReply]] = {}

    async def run(self) -> None:
        """Take the hosts' answers, for ever."""
        subscription = await self._bus.subscribe(self._topic)
        while True:
            for body in await subscription.next_batch():
                self._take(body)

    async def output(self, context: Context, server_id: str, n_lines: int | None) -> str:
        """The last lines of a server's console (None: all). One message each way.

        Raises NotFound; Conflict while there is no console; Transient when the host does not answer in time.
        """
        server = await self._servers.get(context, server_id)
        if server.host_id is None:
            raise Conflict(f"Instance {server_id} is not ready", code="compute.console")
        request = ConsoleRequest(
            host_id=server.host_id,
            request_id=new_uuid(),
            reply_to=self._topic,
            server_id=server_id,
            n_lines=None if n_lines is None else min(n_lines, LINES_MAX),
        )
        reply = await self._ask(request)
        if reply.error is not None:
            raise Conflict(f"Instance {server_id} is not ready: {reply.error}", code="compute.console")
        return reply.output

    async def check_bus(self) -> None:
        """Send this process a message that changes nothing. Raises Transient when the bus does not take it."""
        await self._bus.publish([(self._topic, encode(ConsoleReply(request_id="")))])

    async def _ask(self, request: ConsoleRequest) -> ConsoleReply:
        future: asyncio.Future[ConsoleReply] = asyncio.get_running_loop().create_future()
        self._waiting[request.request_id] = future
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._bus.publish([(host_topic(request.host_id), encode(request))])
                return await future
        except TimeoutError as error:
            raise Transient("The server's host does not answer.", retry_after_s=5.0) from error
        finally:
            del self._waiting[request.request_id]

    def _take(self, body: bytes) -> None:
        try:
            reply = decode(body)
        except msgspec.MsgspecError as error:
            log.warning("message not understood", action="bus.malformed", error=str(error))
            return
        future = self._waiting.get(reply.request_id) if isinstance(reply, ConsoleReply) else None
        if future is not None and isinstance(reply, ConsoleReply) and not future.done():
            future.set_result(reply)

"""What is asked of hosts over the bus and waited for: one message each way, and nothing is kept."""

import asyncio

import msgspec

from muster.base.errors import Transient
from muster.base.ids import new_uuid
from muster.base.log import get_logger
from muster.bus.protocol import Bus
from muster.domain.messages import (
    ConsoleReply,
    ConsoleRequest,
    DiagnosticsReply,
    DiagnosticsRequest,
    decode,
    encode,
    host_topic,
)

log = get_logger(__name__)

Question = ConsoleRequest | DiagnosticsRequest
Reply = ConsoleReply | DiagnosticsReply


class HostQuestions:
    """`run` must be running as a task; each process has a topic of its own, which its questions name in `reply_to`."""

    def __init__(self, bus: Bus, timeout_s: float = 20.0) -> None:
        self._bus = bus
        self._timeout_s = timeout_s
        self.topic = f"console.{new_uuid()}"
        self._waiting: dict[str, asyncio.Future[Reply]] = {}

    async def run(self) -> None:
        """Take the hosts' answers, for ever."""
        subscription = await self._bus.subscribe(self.topic)
        try:
            while True:
                for body in await subscription.next_batch():
                    self._take(body)
        finally:
            await subscription.close()  # left behind, it would take answers from whoever runs next

    async def ask(self, question: Question) -> Reply:
        """A host's answer. Raises Transient when it does not come in time, or the bus is away."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[question.request_id] = future
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._bus.publish([(host_topic(question.host_id), encode(question))])
                return await future
        except TimeoutError as error:
            raise Transient("The server's host does not answer.", retry_after_s=5.0) from error
        finally:
            del self._waiting[question.request_id]

    async def check_bus(self) -> None:
        """Send this process a message that changes nothing. Raises Transient when the bus does not take it."""
        await self._bus.publish([(self.topic, encode(ConsoleReply(request_id="")))])

    def _take(self, body: bytes) -> None:
        try:
            reply = decode(body)
        except msgspec.MsgspecError as error:
            log.warning("message not understood", action="bus.malformed", error=str(error))
            return
        if isinstance(reply, Reply):
            future = self._waiting.get(reply.request_id)
            if future is not None and not future.done():
                future.set_result(reply)

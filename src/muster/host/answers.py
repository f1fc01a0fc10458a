"""Answers to what users ask of a guest through its host: its console's output, its diagnostics."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from muster.base.admission import Admission
from muster.base.errors import MusterError
from muster.base.log import get_logger
from muster.domain.messages import (
    ConsoleReply,
    ConsoleRequest,
    DiagnosticsReply,
    DiagnosticsRequest,
)
from muster.host.ports import Hypervisor
from muster.host.reporter import Courier

AT_ONCE = 4
WAITING_MAX = 100
CONSOLE_CHARS_MAX = 102_400  # Nova's MAX_CONSOLE_BYTES

T = TypeVar("T")


class Answers:
    """Every request is answered, with what was found or with what went wrong; a few are looked into at a time."""

    def __init__(self, hypervisor: Hypervisor, courier: Courier) -> None:
        self._hypervisor = hypervisor
        self._courier = courier
        self._turns = Admission(AT_ONCE, max_waiting=WAITING_MAX)

    async def console(self, request: ConsoleRequest) -> None:
        """The last lines that a guest wrote to its console. One look at a file."""
        output, error = await self._found(
            lambda: self._hypervisor.console_output(request.server_id, request.n_lines), "The console could not be read"
        )
        reply = ConsoleReply(request_id=request.request_id, output=(output or "")[-CONSOLE_CHARS_MAX:], error=error)
        self._courier.send(f"console {request.request_id}", request.reply_to, reply)

    async def diagnostics(self, request: DiagnosticsRequest) -> None:
        """What the hypervisor has measured of a guest. A few hypervisor calls."""
        found, error = await self._found(
            lambda: self._hypervisor.diagnostics(request.server_id), "The guest could not be looked at"
        )
        reply = DiagnosticsReply(request_id=request.request_id, diagnostics=found, error=error)
        self._courier.send(f"diagnostics {request.request_id}", request.reply_to, reply)

    async def _found(self, ask: Callable[[], Awaitable[T]], otherwise: str) -> tuple[T | None, str | None]:
        """What is asked for, or None and why it could not be had."""
        try:
            async with self._turns.slot():
                return await ask(), None
        except MusterError as failure:
            return None, failure.message or failure.code
        except Exception as failure:  # whatever it is, who asked must hear
            get_logger(__name__).warning("no answer", action="agent.answer", error=repr(failure))
            return None, otherwise

"""Whether this process can do its work: its database, its locks and its bus answer.

Invariant: asking costs the engines little, however many ask: one look at a time, and its answer is good for a moment.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from muster.base.errors import Invalid
from muster.base.log import get_logger
from muster.locks.protocol import LockService
from muster.services.host_questions import HostQuestions
from muster.store.engine import Database
from muster.store.revocations import read_clock

log = get_logger(__name__)

_GOOD_FOR_S = 1.0
_ANSWER_WITHIN_S = 3.0

Check = Callable[[], Awaitable[object]]


class Readiness:
    """`checks` raise, or take too long, when what they look at does not answer; Invalid says in its own words why."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._turn = asyncio.Lock()
        self._faults: dict[str, str] = {}
        self._looked_at = float("-inf")

    async def faults(self) -> dict[str, str]:
        """What does not answer, in words without names or addresses; empty when all is well. Takes 3 s at most."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            if loop.time() - self._looked_at > _GOOD_FOR_S:
                found = await asyncio.gather(*(self._look(name, check) for name, check in self._checks.items()))
                faults = {name: fault for name, fault in zip(self._checks, found, strict=True) if fault}
                for name in self._faults.keys() - faults.keys():
                    log.warning("an engine answers again", action="readiness.back", engine=name)
                self._faults = faults
                self._looked_at = loop.time()
            return dict(self._faults)

    async def _look(self, name: str, check: Check) -> str:
        try:
            async with asyncio.timeout(_ANSWER_WITHIN_S):
                await check()
        except TimeoutError:
            fault = f"no answer within {_ANSWER_WITHIN_S:g} s"
            self._tell(name, fault)
        except Invalid as error:  # a setting is wrong, and whoever found it has told the log more
            fault = error.message
        except Exception as error:  # whatever it is: it does not work, and the log says why
            fault = "does not answer"
            self._tell(name, repr(error))
        else:
            fault = ""
        return fault

    def _tell(self, name: str, error: str) -> None:
        """Once, until it answers again: load balancers ask every other second."""
        if name not in self._faults:
            log.warning(
                "an engine does not answer: not ready until it does", action="readiness.fault", engine=name, error=error
            )


def of_engines(
    database: Database, locks: LockService, questions: HostQuestions, name: str, others: Mapping[str, Check]
) -> Readiness:
    """One query, one lock of this process's own (`name`), one message to itself; and `others`."""

    async def ask_database() -> None:
        async with database.read() as connection:
            await read_clock(connection)

    async def ask_locks() -> None:
        async with locks.hold(f"health/{name}"):
            return

    return Readiness({"database": ask_database, "locks": ask_locks, "bus": questions.check_bus, **others})

"""Carries out one step for a batch of servers: one call of an adapter where all goes well.

Invariants: one server's failure is its own (a call that fails for a batch is tried with its halves, since steps are
idempotent); what is only away for a moment (Transient) fails nobody, and what stays away for some servers only puts off
nobody else; no exception of an adapter gets out.
"""

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from muster.base.errors import MusterError, Transient
from muster.base.log import get_logger
from muster.domain.reports import Fault
from muster.host.ports import Outcome


class Result(Struct, frozen=True, kw_only=True):
    """What became of a batch: who is done, who failed and why, who is to be tried again after `retry_after_s`."""

    done: tuple[str, ...] = ()
    faults: dict[str, Fault] = {}
    later: tuple[str, ...] = ()
    retry_after_s: float = 0.0


_log = get_logger(__name__)
_NAMED = 5

# A step's work for these servers: what became of each, or None where all are done.
Work = Callable[[Sequence[str]], Awaitable[Sequence[Outcome] | None]]


async def carry_out(step: str, server_ids: Sequence[str], work: Work, *, again: bool = False) -> Result:
    """Do `work` for these servers. One call of it when nothing fails; a server that spoils the batch costs O(log n).

    What is away puts off the whole batch. `again`: some of these were put off before, so those for whom alone it is
    away are looked for; where it is away for all, that costs O(log n) calls.
    """
    return await _carry_out(step, server_ids, work, _Patience(2 * len(server_ids).bit_length() if again else 1))


class _Patience:
    """How often in a row something may turn out to be away, before it is taken to be away for all. Twice log2(n) is
    twice as often as it takes to find the one of n servers for which alone it is."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self.lost: Transient | None = None

    def went_well(self) -> None:
        self._left = self._most

    def met(self, error: Transient) -> None:
        self._left -= 1
        if not self._left:
            self.lost = error


async def _carry_out(step: str, server_ids: Sequence[str], work: Work, patience: _Patience) -> Result:
    if patience.lost is not None:
        return _put_off(step, server_ids, patience.lost)
    try:
        outcomes = await work(server_ids)
    except Transient as error:
        patience.met(error)
        if len(server_ids) == 1 or patience.lost is not None:
            return _put_off(step, server_ids, error)
    except Exception as error:  # adapters wrap what they know; what they do not must not stop a host
        if len(server_ids) == 1:
            return Result(faults={server_ids[0]: fault_of(step, error, server_ids[0])})
    else:
        patience.went_well()
        return _told(server_ids, outcomes or ())
    middle = len(server_ids) // 2
    first = await _carry_out(step, server_ids[:middle], work, patience)
    return _joined(first, await _carry_out(step, server_ids[middle:], work, patience))


def _put_off(step: str, server_ids: Sequence[str], error: Transient) -> Result:
    _log.warning("step put off", action="step.transient", step=step, servers=_some(server_ids), error=str(error))
    return Result(later=tuple(server_ids), retry_after_s=error.retry_after_s)


def _told(server_ids: Sequence[str], outcomes: Sequence[Outcome]) -> Result:
    faults = {outcome.server_id: outcome.fault for outcome in outcomes if outcome.fault is not None}
    later = {outcome.server_id: outcome.retry_after_s for outcome in outcomes if outcome.retry_after_s is not None}
    return Result(
        done=tuple(id_ for id_ in server_ids if id_ not in faults and id_ not in later),
        faults=faults,
        later=tuple(id_ for id_ in later if id_ not in faults),
        retry_after_s=max(later.values(), default=0.0),
    )


def fault_of(step: str, error: Exception, server_id: str) -> Fault:
    """What users and operators are told of an error."""
    _log.warning("step failed", action="step.failed", step=step, server=server_id, error=repr(error))
    message = error.message if isinstance(error, MusterError) else ""
    return Fault(500, message or f"The host failed at the step '{step}'", repr(error))


def _some(server_ids: Sequence[str]) -> str:
    """Servers as a log names them: not all of a thousand."""
    more = len(server_ids) - _NAMED
    return " ".join(server_ids[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _joined(one: Result, other: Result) -> Result:
    return Result(
        done=one.done + other.done,
        faults=one.faults | other.faults,
        later=one.later + other.later,
        retry_after_s=max(one.retry_after_s, other.retry_after_s),
    )

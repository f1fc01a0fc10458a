"""Which share of the servers is in which state at each moment: the data of the chart. Pure arithmetic.

Invariant: at every moment the shares of all states add up to the number of servers.
"""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from muster.bench.options import Phase, ServersOptions
from muster.bench.records import ServerRecord

MOST_POINTS = 2_000


class State(StrEnum):
    """What a server is in, from the last to the first: the order of the chart's stack. The text is its legend's."""

    FAILED = "failed"
    GONE = "gone"
    DELETING = "deleting"
    READY = "ready"
    SSH = "ping ok, waiting for ssh"
    PING = "ACTIVE, waiting for ping"
    BUILDING = "building"
    REQUESTED = "requested, POST not answered"
    WAITING = "not requested yet"


class Shares(msgspec.Struct, frozen=True):
    """Counts of servers per state: `counts[state][i]` from `times_s[i]` until the next one."""

    times_s: list[float]
    counts: dict[State, list[int]]


def shares(records: Sequence[ServerRecord], options: ServersOptions, end_s: float) -> Shares:
    """The counts over time, at most `MOST_POINTS` + 2 moments. Cost: linear in servers, plus one sort."""
    changes: list[tuple[float, State, State]] = []
    for record in records:
        before = State.WAITING
        for at_s, state in states(record, options):
            changes.append((at_s, before, state))
            before = state
    changes.sort(key=lambda change: change[0])
    return _accumulate(changes, len(records), max([end_s, *(change[0] for change in changes[-1:])]))


def states(record: ServerRecord, options: ServersOptions) -> list[tuple[float, State]]:
    """When the server entered which state, in order of time."""
    after_active = State.PING if options.wants(Phase.PING) else State.SSH if options.wants(Phase.SSH) else State.READY
    entered = [
        (record.requested_at_s, State.REQUESTED),
        (record.accepted_at_s, State.BUILDING),
        (record.active_at_s, after_active),
        (record.pinged_at_s, State.SSH if options.wants(Phase.SSH) else State.READY),
        (record.ready_at_s, State.READY),
        (record.failed_at_s, State.FAILED),
        (record.delete_requested_at_s, State.DELETING),
        (record.gone_at_s, State.GONE),
    ]
    known = [(at_s, state) for at_s, state in entered if at_s is not None]
    known.sort(key=lambda item: item[0])  # stable: a failure of the deletion comes after its request
    return known


def _accumulate(changes: list[tuple[float, State, State]], servers: int, end_s: float) -> Shares:
    now = dict.fromkeys(State, 0) | {State.WAITING: servers}
    times_s: list[float] = [0.0]
    counts = {state: [number] for state, number in now.items()}
    for at_s, before, after in changes:
        now[before] -= 1
        now[after] += 1
        if at_s - times_s[-1] > end_s / MOST_POINTS:
            times_s.append(at_s)
            for state in State:
                counts[state].append(now[state])
        else:
            for state in (before, after):
                counts[state][-1] = now[state]
    times_s.append(end_s)
    for state in State:
        counts[state].append(now[state])
    return Shares(times_s, counts)

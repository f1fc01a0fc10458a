"""A process's way to addresses: requests that wait for a subnet together, one lock and one transaction for them all."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Protocol, TypeVar

from msgspec import Struct
from sqlalchemy.engine import Connection

from muster.base.errors import MusterError, Transient
from muster.neutron.allocation import Ask, Mark, Terms, allocate, give_back
from muster.neutron.brisk import Brisk
from muster.neutron.combiner import Combiner
from muster.neutron.locks import Locks
from muster.neutron.sessions import Claim
from muster.neutron.tables import State

LOG = logging.getLogger(__name__)

_WARN_EVERY_S = 10.0
_WARY_S = 600.0


Result = TypeVar("Result")


class Transactions(Protocol):
    """See `database.Database`."""

    def run(self, work: Callable[[Connection], Result]) -> Result: ...


class Policy(Struct, frozen=True):
    """See `options`; times in seconds."""

    batch: int
    rest_s: float
    claim_age_s: float
    refuse_without_lock: bool
    fits: Callable[[str, str], bool]


class Allocator:
    """Decides and commits addresses; thread-safe."""

    def __init__(self, database: Transactions, locks: Locks, policy: Policy) -> None:
        self._database = database
        self._locks = locks
        self._policy = policy
        self._brisk = Brisk()
        self._guard = threading.Lock()
        self._combiners: dict[str, Combiner[Ask, Claim]] = {}
        self._swept: dict[str, float] = {}
        self._met_unknown: dict[str, float] = {}
        self._warned = -_WARN_EVERY_S

    def claim(self, subnet_id: str, ask: Ask) -> Claim:
        """Addresses of a subnet that are this request's from now on, visible to all, until confirmed or given back.

        Raises Conflict, Exhausted, Invalid, NotFound (see `allocation.allocate`), Transient when the lock service or
        the database is away.
        """
        with self._guard:
            combiner = self._combiners.get(subnet_id)
            if combiner is None:
                combiner = Combiner(lambda asks: self._serve(subnet_id, asks), self._policy.batch)
                self._combiners[subnet_id] = combiner
        return combiner.submit(ask)

    def give_back(self, claims: Sequence[Claim]) -> None:
        """What of these claims no port came to hold is free again. One transaction."""
        now = time.time()

        def work(connection: Connection) -> list[str]:
            return [
                one.subnet_id
                for one in claims
                if give_back(connection, one.subnet_id, one.ip_addresses, one.claim, now)
            ]

        for subnet_id in self._database.run(work):
            LOG.warning("Subnet %s has ports that the IPAM driver did not know: they are noted", subnet_id)
            self._met_unknown[subnet_id] = now
        LOG.info("Addresses given back, no port came to hold them: %s", claims)

    def _serve(self, subnet_id: str, asks: list[Ask]) -> list[Claim | BaseException]:
        began = time.monotonic()
        with ExitStack() as stack:
            stack.enter_context(self._brisk.while_held())
            self._lock(stack, subnet_id)
            locked = time.monotonic()
            outcomes = self._decide(subnet_id, asks)
        LOG.debug(
            "%s requests for addresses of subnet %s in one batch: waited %.1f ms for the lock, held it %.1f ms",
            len(asks), subnet_id, 1e3 * (locked - began), 1e3 * (time.monotonic() - locked),
        )  # fmt: skip
        return outcomes

    def _lock(self, stack: ExitStack, subnet_id: str) -> None:
        try:
            stack.enter_context(self._locks.hold(f"subnet/{subnet_id}"))
        except Transient as error:
            if time.monotonic() > self._warned + _WARN_EVERY_S:
                self._warned = time.monotonic()
                LOG.error("No lock for an allocation in subnet %s: %s", subnet_id, error)
            if self._policy.refuse_without_lock:
                raise

    def _decide(self, subnet_id: str, asks: Sequence[Ask]) -> list[Claim | BaseException]:
        mark = Mark(State.CLAIMED, secrets.token_hex(16))
        terms = self._terms(subnet_id)
        outcomes = self._database.run(lambda connection: allocate(connection, subnet_id, asks, mark, terms))
        return [one if isinstance(one, MusterError) else Claim(subnet_id, one, str(mark.claim)) for one in outcomes]

    def _terms(self, subnet_id: str) -> Terms:
        policy, now = self._policy, time.time()
        due = now - self._swept.get(subnet_id, 0.0) > policy.claim_age_s
        if due:
            self._swept[subnet_id] = now
        wary = due or now - self._met_unknown.get(subnet_id, 0.0) < _WARY_S
        return Terms(policy.fits, now, policy.rest_s, policy.claim_age_s, sweep=due, check_ports=wary)

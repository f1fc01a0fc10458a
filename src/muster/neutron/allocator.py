"""A process's way to addresses: requests that wait for a subnet together, one lock and one transaction for them all."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol, TypeVar

from msgspec import Struct
from sqlalchemy.engine import Connection

from muster.base.errors import MusterError, Transient
from muster.neutron.allocation import Ages, Ask, Mark, Terms, allocate, give_back
from muster.neutron.brisk import Brisk
from muster.neutron.combiner import Combiner
from muster.neutron.lately import Lately
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
    ages: Ages
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
        self._combiners: dict[str, tuple[Combiner[Ask, Claim], int]] = {}  # each with how many are there
        self._swept = Lately(policy.ages.claim_s)
        self._met_unknown = Lately(_WARY_S)
        self._warned = -_WARN_EVERY_S

    def claim(self, subnet_id: str, ask: Ask) -> Claim:
        """Addresses of a subnet that are this request's from now on, visible to all, until confirmed or given back.

        Raises Conflict, Exhausted, Invalid, NotFound (see `allocation.allocate`), Transient when the lock service or
        the database is away.
        """
        with self._combiner(subnet_id) as combiner:
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
            self._met_unknown.note(subnet_id)
        LOG.info("Addresses given back, no port came to hold them: %s", claims)

    @contextmanager
    def _combiner(self, subnet_id: str) -> Iterator[Combiner[Ask, Claim]]:
        """The subnet's; it is there for as long as somebody is."""
        with self._guard:
            combiner, users = self._combiners.get(subnet_id, (None, 0))
            if combiner is None:
                combiner = Combiner(lambda asks: self._serve(subnet_id, asks), self._policy.batch)
            self._combiners[subnet_id] = (combiner, users + 1)
        try:
            yield combiner
        finally:
            with self._guard:
                _, users = self._combiners.pop(subnet_id)
                if users > 1:
                    self._combiners[subnet_id] = (combiner, users - 1)

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
        policy = self._policy
        due = subnet_id not in self._swept
        if due:
            self._swept.note(subnet_id)
        wary = due or subnet_id in self._met_unknown
        return Terms(policy.fits, time.time(), policy.rest_s, policy.ages, sweep=due, check_ports=wary)

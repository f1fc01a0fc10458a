"""What the driver did within a transaction of Neutron's, and what has to happen when that ends.

Invariant: an address that was claimed for a transaction and is not held when the transaction has ended is given back,
whatever ended it. If the process itself ends, the sweep does it (`allocation.sweep`).
"""

import logging
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field
from sqlalchemy import event, orm

LOG = logging.getLogger(__name__)

_KEY = "muster_ipam"


class Claim(Struct, frozen=True):
    """Addresses that a batch decided for one request."""

    subnet_id: str
    ip_addresses: tuple[str, ...]
    claim: str

    def singly(self) -> "list[Claim]":
        """The same, one for each address."""
        return [Claim(self.subnet_id, (one,), self.claim) for one in self.ip_addresses]


class Book(Struct):
    """Of one transaction: what it claimed and released, and the subnets whose rows it has locked itself."""

    claims: list[Claim] = field(default_factory=list)
    released: set[tuple[str, str]] = field(default_factory=set)
    own_subnets: set[str] = field(default_factory=set)
    committed: bool = False
    doubtful: bool = False  # a savepoint was rolled back: a claim may not have been confirmed after all


def book(session: orm.Session) -> Book:
    """The book of the session's transaction."""
    found: Book = session.info.setdefault(_KEY, Book())
    return found


def watch(give_back: Callable[[list[Claim]], None]) -> None:
    """See to it from now on that claims are given back when their transaction does not commit."""

    def after_commit(session: orm.Session) -> None:
        opened = session.info.get(_KEY)
        if opened is not None and not session.in_nested_transaction():
            opened.committed = True

    def after_soft_rollback(session: orm.Session, _: Any) -> None:
        opened = session.info.get(_KEY)
        if opened is not None:
            opened.doubtful = True

    def after_transaction_end(session: orm.Session, transaction: Any) -> None:
        if transaction.parent is not None:
            return
        closed = session.info.pop(_KEY, None)
        if closed is not None and closed.claims and (closed.doubtful or not closed.committed):
            try:
                give_back(closed.claims)
            except Exception:  # the error that ended the transaction is the one to be seen
                LOG.exception("Addresses are given back by the sweep: %s", closed.claims)

    event.listen(orm.Session, "after_commit", after_commit)
    event.listen(orm.Session, "after_soft_rollback", after_soft_rollback)
    event.listen(orm.Session, "after_transaction_end", after_transaction_end)

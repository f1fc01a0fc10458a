"""Revocations in memory, for the check of each request, and in the database, for restarts and other processes.

Invariant: a revocation commits in the transaction of the change that calls for it, before anybody gets a reply.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from muster.base.clock import Clock
from muster.base.coalescer import Coalescer
from muster.domain.revocations import Revocation
from muster.services.redecide import redecided
from muster.store import revocations as store
from muster.store.engine import Connection, Database

# Machines whose clocks differ by less than this agree on which tokens have expired.
CLOCK_SKEW_S = 300.0
# What has expired does no harm: it is looked for now and then only.
_PRUNE_EVERY_S = 60.0


class Change:
    """A write transaction of identity's; what it makes void is collected with `revoke` and recorded at its end."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.subjects: list[str] = []

    def revoke(self, *subjects: str) -> None:
        """Void all tokens about these subjects, when the transaction commits."""
        self.subjects += subjects


class Revocations:
    """What is revoked. `token_lifetime_s` is the longest that a token lives; a revocation is kept that long."""

    def __init__(self, db: Database, clock: Clock, *, token_lifetime_s: float) -> None:
        self._db = db
        self._clock = clock
        self._keep_s = token_lifetime_s + CLOCK_SKEW_S
        self._held: dict[str, Revocation] = {}
        self._cursor = 0
        self._prune_at_s = 0.0
        self._refreshing = asyncio.Lock()
        self._coalescer: Coalescer[str, None] = Coalescer(
            redecided("revocations", self._revoke_batch), name="revocations"
        )
        # Grows whenever something was revoked: a token checked at this generation needs no second look.
        self.generation = 0

    def is_revoked(self, subjects: Iterable[str], epoch: int) -> bool:
        """Whether a token with these subjects and this epoch is void. Reads memory only."""
        held = self._held
        return any(subject in held and held[subject].seq > epoch for subject in subjects)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Change]:
        """A write transaction that can revoke; in this process, revocations hold as soon as it has committed."""
        async with self._db.write() as connection:
            change = Change(connection)
            yield change
            now = self._clock()
            made = await store.record(connection, change.subjects, now, now + self._keep_s)
        self._hold(made)

    async def revoke(self, subject: str) -> None:
        """Revoke one subject; those that wait at the same time share a transaction."""
        await self._coalescer.submit(subject)

    async def refresh(self) -> None:
        """Learn what other processes revoked; once a minute, forget what has expired. One query, then two or three.

        To be called at start, every few seconds and when told. Raises Transient when the database is away.
        """
        async with self._refreshing:
            now = self._clock()
            async with self._db.read() as connection:
                news = await store.read_since(connection, self._cursor, now)
                expired = now >= self._prune_at_s and await store.has_expired_ones(connection, now)
            if now >= self._prune_at_s:
                self._prune_at_s = now + _PRUNE_EVERY_S
            self._hold(news)
            if news:
                self._cursor = news[-1].seq
            if expired:
                self._held = {name: held for name, held in self._held.items() if held.expires_at_s > now}
                async with self._db.write() as connection:
                    await store.prune(connection, now)

    def _hold(self, made: Sequence[Revocation]) -> None:
        # The cursor stays: another process may have committed a lower number that was not read yet.
        for one in made:
            held = self._held.get(one.subject)
            if held is None or held.seq < one.seq:
                self._held[one.subject] = one
                self.generation += 1

    async def _revoke_batch(self, subjects: list[str]) -> list[None]:
        async with self.write() as change:
            change.revoke(*subjects)
        return [None] * len(subjects)

"""What one transaction takes of projects' quotas and gives back: decided by what others have committed, counted last.

A project's figure is a row. Counted when it is asked for, it would be held until the commit, and all workers' batches
would queue for it; counted last, it is held for as long as a commit takes. Invariant: no commit leaves more in use than
the limit, if it took any. What others took since the figure was read is seen when it is counted, and decided again.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from muster.base.errors import Stale
from muster.domain.quotas import UNLIMITED, Ask, Refusal, Share, admit, admit_shares, totals
from muster.services.quotas import Quotas
from muster.store import usages as usage_store
from muster.store.engine import Connection

Key = tuple[str, str]  # project, resource


class Tally:
    """Of one transaction; whoever opened it calls `settle` at its end."""

    def __init__(self, quotas: Quotas, connection: Connection) -> None:
        self._quotas = quotas
        self._connection = connection
        self._read: dict[Key, int] = {}  # what others had in use
        self._limits: dict[Key, int] = {}
        self._taken: Counter[Key] = Counter()

    async def admit(self, asks: Sequence[Ask]) -> list[Refusal | None]:
        """Which of these requests do not fit, and why; the others are taken. Two queries, none for what is known."""
        await self._look({ask.project_id for ask in asks}, {name for ask in asks for name in ask.amounts})
        outcomes = admit(asks, self._in_use(), self._limits)
        self._taken.update(totals(ask for ask, refusal in zip(asks, outcomes, strict=True) if refusal is None))
        return outcomes

    async def admit_shares(self, shares: Sequence[Share]) -> list[int | Refusal]:
        """How many each of these requests gets, which are taken, or why none. Costs as `admit` does."""
        await self._look({share.project_id for share in shares}, {name for share in shares for name in share.each})
        outcomes = admit_shares(shares, self._in_use(), self._limits)
        self._taken.update(
            totals(
                Ask(share.project_id, {name: amount * count for name, amount in share.each.items()})
                for share, count in zip(shares, outcomes, strict=True)
                if isinstance(count, int)
            )
        )
        return outcomes

    def give_back(self, asks: Iterable[Ask]) -> None:
        """These are free again."""
        self._taken.subtract(totals(asks))

    async def settle(self) -> None:
        """Count all of it. Raises Stale if others took so much meanwhile that it does not fit. One statement."""
        changed = {key: amount for key, amount in self._taken.items() if amount}
        if not changed:
            return
        after = await usage_store.add(self._connection, changed)
        for key, in_use in after.items():
            limit = self._limits.get(key, UNLIMITED)
            if changed[key] > 0 and UNLIMITED != limit < in_use:
                raise Stale(f"What was left of the quota for {key[1]} has been taken")

    def _in_use(self) -> dict[Key, int]:
        return {key: self._read.get(key, 0) + self._taken[key] for key in self._limits}

    async def _look(self, project_ids: Collection[str], resources: Collection[str]) -> None:
        wanted = {(project_id, resource) for project_id in project_ids for resource in resources}
        if wanted <= self._limits.keys():
            return
        self._limits |= await self._quotas.limits(self._connection, project_ids, resources)
        self._read |= await usage_store.read(self._connection, project_ids)

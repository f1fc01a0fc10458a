"""What one transaction takes of projects' quotas and gives back: decided by what others have committed, counted last.

A project's figure is a row. Counted when it is asked for, it would be held until the commit, and all workers' batches
would queue for it; counted last, it is held for as long as a commit takes. Invariant: no commit leaves more in use than
the limit, if it took any. What others took since the figure was read is seen when it is counted, and decided again.

Users who have limits of their own within a project have figures as well, which are counted with the project's. That
there are such users is read with the project's figure, so it costs nothing where there are none.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from muster.base.errors import Stale
from muster.domain.quotas import UNLIMITED, Ask, Key, Refusal, Share, admit, admit_shares, totals
from muster.services.quotas import Quotas, count
from muster.store import usages as usage_store
from muster.store.engine import Connection


class Tally:
    """Of one transaction; whoever opened it calls `settle` at its end."""

    def __init__(self, quotas: Quotas, connection: Connection) -> None:
        self._quotas = quotas
        self._connection = connection
        self._read: dict[Key, int] = {}  # what others had in use
        self._limits: dict[Key, int] = {}
        self._known: set[Key] = set()  # what was looked at
        self._taken: Counter[Key] = Counter()

    async def admit(self, asks: Sequence[Ask]) -> list[Refusal | None]:
        """Which of these requests do not fit, and why; the others are taken. Two queries, none for what is known."""
        await self._look(asks, {name for ask in asks for name in ask.amounts})
        outcomes = admit(asks, self._in_use(), self._limits)
        self._taken.update(totals(ask for ask, refusal in zip(asks, outcomes, strict=True) if refusal is None))
        return outcomes

    async def admit_shares(self, shares: Sequence[Share]) -> list[int | Refusal]:
        """How many each of these requests gets, which are taken, or why none. Costs as `admit` does."""
        await self._look(shares, {name for share in shares for name in share.each})
        outcomes = admit_shares(shares, self._in_use(), self._limits)
        self._taken.update(
            totals(
                Ask(share.project_id, {name: amount * got for name, amount in share.each.items()}, share.user_id)
                for share, got in zip(shares, outcomes, strict=True)
                if isinstance(got, int)
            )
        )
        return outcomes

    def give_back(self, asks: Iterable[Ask]) -> None:
        """These are free again."""
        self._taken.subtract(totals(asks))

    async def settle(self) -> None:
        """Count all of it. Raises Stale if others took so much meanwhile that it does not fit.

        One statement, two where users of one of the projects have limits of their own.
        """
        changed = {key: amount for key, amount in self._taken.items() if amount}
        if not changed:
            return
        after = await count(self._connection, changed)
        for key, in_use in after.in_use.items():
            limit = after.limits.get(key, self._limits.get(key, UNLIMITED))
            if changed[key] > 0 and UNLIMITED != limit < in_use:
                raise Stale(f"What was left of the quota for {key[-1]} has been taken")

    def _in_use(self) -> dict[Key, int]:
        return {key: self._read.get(key, 0) + self._taken[key] for key in self._limits}

    async def _look(self, asks: Sequence[Ask] | Sequence[Share], resources: Collection[str]) -> None:
        owners = {(ask.project_id, ask.user_id) for ask in asks}
        wanted: set[Key] = {(project_id, name) for project_id, _ in owners for name in resources}
        wanted |= {(*owner, name) for owner in owners if owner[1] for name in resources}
        if wanted <= self._known:
            return
        self._known |= wanted
        project_ids = {project_id for project_id, _ in owners}
        figures = await usage_store.read_figures(self._connection, project_ids)
        self._read.update(figures.in_use.items())
        user_ids = {user_id for project_id, user_id in owners if user_id and project_id in figures.by_user}
        if user_ids:
            standing = await self._quotas.limits_with_users(self._connection, project_ids, user_ids, resources)
            self._read |= standing.in_use
            self._limits |= standing.limits
        else:
            self._limits |= await self._quotas.limits(self._connection, project_ids, resources)

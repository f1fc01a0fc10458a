"""Servers that are tried again later: each after its delay, and once the host has been looked at since.

Invariant: whatever is put off comes back, however often a look fails in between.
"""

from collections.abc import Callable

from muster.host.agenda import Agenda
from muster.host.records import Lane, Record


class PutOff:
    """Kept by the reconciler. `look` has the host looked at; then the reconciler asks who comes back with that."""

    def __init__(self, agenda: Agenda, look: Callable[[], None]) -> None:
        self._agenda = agenda
        self._look = look
        self._due_s: dict[str, float] = {}
        self._returning: set[str] = set()

    def hold(self, record: Record, lane: Lane, delay_s: float) -> None:
        """This lane leaves the server alone for so long, or less if that was said before."""
        record.held = lane
        due_s = self._agenda.now() + delay_s
        if self._due_s.get(record.server_id, due_s) >= due_s:
            self._due_s[record.server_id] = due_s
            self._agenda.after(delay_s, self._come_back)

    def forget(self, server_id: str) -> None:
        """It need not come back."""
        self._due_s.pop(server_id, None)

    def hurry(self, server_id: str) -> None:
        """What it was put off for is there: it comes back with a look now."""
        if self._due_s.pop(server_id, None) is not None:
            self._returning.add(server_id)
        self._look()

    def take_returning(self) -> set[str]:
        """Those whose time has come: a look that begins now is theirs."""
        returning, self._returning = self._returning, set()
        return returning

    def give_back(self, returning: set[str]) -> None:
        """Nothing could be seen: they come back with the next look."""
        self._returning |= returning

    def _come_back(self) -> None:
        now_s = self._agenda.now()
        due = [server_id for server_id, due_s in self._due_s.items() if due_s <= now_s]
        for server_id in due:
            del self._due_s[server_id]
        if due:
            self._returning.update(due)
            self._look()

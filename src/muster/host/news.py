"""What a reconciler says, and when: a server's new state at once, in a boot storm with others'."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from muster.domain.reports import GuestState, ServerReport
from muster.host.agenda import Agenda, Entry
from muster.host.boot import BootQueue


class Outlet(Struct, frozen=True):
    """Where the reconciler says things: a server's new state, one that can wait for the next of these, that the wait
    is over, that all is known now, that something is missing; what it asks the fates of strangers by."""

    report: Callable[[ServerReport], None]
    mention: Callable[[ServerReport], None]
    flush: Callable[[], None]
    ready: Callable[[], None]
    ask_everything: Callable[[], None]
    ask_fates: Callable[[Sequence[str]], None]


class Gathering(Struct, frozen=True, kw_only=True):
    """While guests wait for their boot, starts of `least_s` are told together, and stops while others stop; of those
    that waited long for their boot, starts of `share` of that wait, up to `most_s`."""

    least_s: float = 1.0
    share: float = 0.05
    most_s: float = 5.0


class News:
    """Tells of servers by an outlet. Belongs to one event loop; nothing waits."""

    def __init__(self, outlet: Outlet, boots: BootQueue, agenda: Agenda, gathering: Gathering) -> None:
        self._outlet, self._boots, self._agenda, self._gathering = outlet, boots, agenda, gathering
        self._due: Entry | None = None

    def tell(self, report: ServerReport, *, is_news: bool, others_stop: bool = False) -> None:
        """A time alone waits for the next message. In a boot storm starts are told together: who waits for a boot gains
        nothing by each of them, and each costs the control plane a transaction. Who waited long is told a little later
        for it: by a share of that wait, so that starts which are seconds apart share a message too. So are stops while
        others are asked to stop."""
        in_company = {GuestState.RUNNING: self._boots.waiting > 0, GuestState.STOPPED: others_stop}
        if is_news and not in_company.get(report.state, False):
            self._outlet.report(report)
            return
        self._outlet.mention(report)
        if is_news:
            self._gather(report.server_id)

    def _gather(self, server_id: str) -> None:
        """What was mentioned is told when the first of them is due."""
        share_s = self._gathering.share * self._boots.waited_s(server_id)
        delay_s = max(self._gathering.least_s, min(share_s, self._gathering.most_s))
        if self._due is not None:
            if self._due.at_s <= self._agenda.now() + delay_s:
                return
            self._due.cancel()
        self._due = self._agenda.after(delay_s, self._gathered)

    def _gathered(self) -> None:
        self._due = None
        self._outlet.flush()

"""The order of hosts' reports: messages come late, twice or not at all, and the newest word must be the last. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from muster.domain.messages import Report


class Order(Struct, frozen=True):
    """`news` are the reports that may say something new, oldest first, and `seqs` is how far each host has come with
    them. `early` are those before which one is missing, and `gaps` their hosts."""

    news: tuple[Report, ...]
    seqs: dict[str, int]
    gaps: frozenset[str]
    early: tuple[Report, ...]


def in_order(reports: Sequence[Report], seqs: Mapping[str, int], *, wait: bool = False) -> Order:
    """Put reports in order; `seqs` is how far each host had come. Those of hosts that it does not name are left out.

    With `wait`, what follows a gap is `early` and no news yet: what is missing may be on its way. Without, it is taken
    in all the same: its hosts are asked for everything, which then comes after it.
    """
    reached = dict(seqs)
    gaps: set[str] = set()
    news: list[Report] = []
    early: list[Report] = []
    for report in sorted(reports, key=lambda one: one.to_seq):
        if report.host_id not in seqs or report.to_seq <= reached[report.host_id]:
            continue
        if report.everything or report.from_seq == reached[report.host_id]:
            news.append(report)
            reached[report.host_id] = report.to_seq
            gaps.discard(report.host_id)
        else:
            (early if wait else news).append(report)
            gaps.add(report.host_id)
    return Order(tuple(news), reached, frozenset(gaps), tuple(one for one in early if one.host_id in gaps))

"""The order of hosts' reports: messages come late, twice or not at all, and the newest word must be the last. Pure."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from muster.domain.messages import Report


class Order(Struct, frozen=True):
    """`news` are the reports that may say something new, oldest first; `seqs` is how far each host has come with them,
    and `gaps` are the hosts of which a report before these is missing."""

    news: tuple[Report, ...]
    seqs: dict[str, int]
    gaps: frozenset[str]


def in_order(reports: Sequence[Report], seqs: Mapping[str, int]) -> Order:
    """Put reports in order; `seqs` is how far each host had come. Those of hosts that it does not name are left out.

    What follows a gap is taken in all the same: its hosts are asked for everything, which then comes after it.
    """
    reached = dict(seqs)
    gaps: set[str] = set()
    news = []
    for report in sorted(reports, key=lambda one: one.to_seq):
        if report.host_id not in seqs or report.to_seq <= reached[report.host_id]:
            continue
        news.append(report)
        if report.everything or report.from_seq == reached[report.host_id]:
            reached[report.host_id] = report.to_seq
            gaps.discard(report.host_id)
        else:
            gaps.add(report.host_id)
    return Order(tuple(news), reached, frozenset(gaps))

"""Reports that come late, twice or not at all."""

from collections.abc import Sequence
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from muster.domain.messages import Report
from muster.domain.report_order import in_order


def report(to_seq: int, *, host_id: str = "h", everything: bool = False) -> Report:
    return Report(host_id=host_id, from_seq=to_seq - 1, to_seq=to_seq, everything=everything)


def numbers(reports: Sequence[Report]) -> list[int]:
    return [one.to_seq for one in reports]


def test_reports_of_one_batch_are_taken_in_their_order() -> None:
    order = in_order([report(7), report(6)], {"h": 5})
    assert (numbers(order.news), order.seqs, order.gaps) == ([6, 7], {"h": 7}, frozenset())


def test_what_is_old_says_nothing() -> None:
    order = in_order([report(5), report(4, everything=True)], {"h": 5})
    assert (order.news, order.seqs, order.gaps) == ((), {"h": 5}, frozenset())


def test_what_follows_a_gap_is_taken_and_everything_is_wanted() -> None:
    order = in_order([report(7)], {"h": 5})
    assert (numbers(order.news), order.seqs, order.gaps) == ([7], {"h": 5}, frozenset({"h"}))
    order = in_order([report(7), report(8, everything=True)], {"h": 5})
    assert (numbers(order.news), order.seqs, order.gaps) == ([7, 8], {"h": 8}, frozenset())


def test_what_follows_a_gap_may_wait_for_what_is_missing() -> None:
    order = in_order([report(6), report(8)], {"h": 5}, wait=True)
    assert (numbers(order.news), numbers(order.early)) == ([6], [8])
    assert (order.seqs, order.gaps) == ({"h": 6}, frozenset({"h"}))
    order = in_order([report(8), report(9, everything=True)], {"h": 5}, wait=True)  # which says it all
    assert (numbers(order.news), order.early, order.gaps) == ([9], (), frozenset())


def test_each_host_has_its_own_numbers() -> None:
    order = in_order([report(7), report(2, host_id="i"), report(1, host_id="unknown")], {"h": 6, "i": 0})
    assert (order.seqs, order.gaps) == ({"h": 7, "i": 0}, frozenset({"i"}))
    assert {one.host_id for one in order.news} == {"h", "i"}


@given(count=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_a_loss_is_always_seen_and_the_newest_word_is_the_last(count: int, seed: int) -> None:
    rng = Random(seed)
    sent = [report(number) for number in range(1, count + 1)]
    arrived = [one for one in sent for _ in range(rng.choice((0, 1, 1, 2)))]
    rng.shuffle(arrived)
    seq, last = 0, 0
    while arrived:
        batch = [arrived.pop() for _ in range(min(len(arrived), rng.randint(1, 4)))]
        order = in_order(batch, {"h": seq})
        assert numbers(order.news) == sorted(numbers(order.news))
        seq = order.seqs["h"]
        last = max([last, *numbers(batch)])
        assert (seq < last) or not order.gaps
        if order.gaps and rng.random() < 0.5:  # asked, and answered
            seq = in_order([report(count + 1, everything=True)], {"h": seq}).seqs["h"]
            break
    missing = {one.to_seq for one in sent[:last]}
    assert seq >= last or not missing or seq < last, "never ahead of what was sent"
    assert seq <= count + 1

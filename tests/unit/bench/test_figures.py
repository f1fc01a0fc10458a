"""The arithmetic of the table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.base.percentile import percentile
from muster.bench.figures import faults, figures, shared_addresses, spread
from muster.bench.options import Phase, ServersOptions
from muster.bench.records import Fault
from muster.client.faults import anonymous

from .makers import UP_AND_DOWN, record


@pytest.mark.parametrize(("percent", "value"), [(1, 1), (50, 50), (90, 90), (99, 99), (100, 100)])
def test_percentiles_are_by_nearest_rank(percent: int, value: int) -> None:
    assert percentile(list(range(1, 101)), percent) == value


def test_percentiles_of_few() -> None:
    assert percentile([7.0], 99) == 7.0
    assert percentile([1.0, 2.0], 50) == 1.0
    assert percentile([1.0, 2.0, 3.0], 90) == 3.0


@given(st.lists(st.floats(0, 1e6), min_size=1), st.integers(1, 100))
def test_at_least_so_many_percent_do_not_exceed_a_percentile(values: list[float], percent: int) -> None:
    limit = percentile(sorted(values), percent)
    assert sum(value <= limit for value in values) * 100 >= percent * len(values)
    assert limit in values


def test_spread_of_nothing() -> None:
    assert spread([]) is None


def test_who_did_not_arrive_counts_in_the_total_only() -> None:
    records = [record(0, requested=0.0, accepted=0.5, active=2.0), record(1, requested=0.0, accepted=1.0), record(2)]
    accepted, create = figures(records, ServersOptions(count=3, phases=(Phase.CREATE,)))
    assert (accepted.ok, accepted.total, create.ok, create.total) == (2, 3, 1, 3)
    assert create.spread is not None
    assert create.spread.max_s == 2.0
    assert create.per_s == 0.5


def test_quarters_follow_the_order_of_submission() -> None:
    records = [record(i, requested=0.0, accepted=0.1, active=float(i + 1)) for i in range(8)]
    create = figures(records, ServersOptions(count=8, phases=(Phase.CREATE,)))[1]
    assert create.quartile_p50_s == [1.0, 3.0, 5.0, 7.0]


def test_phases_start_where_the_one_before_ended() -> None:
    one = record(
        0, requested=0.0, accepted=1.0, active=3.0, pinged=6.0, banner=10.0, login=15.0, ready=15.0,
        delete_requested=20.0, delete_accepted=21.0, gone=27.0,
    )  # fmt: skip
    rows = {row.name: row.spread.p50_s for row in figures([one], ServersOptions(count=1, login=True)) if row.spread}
    assert rows == {"POST accepted": 1, "create": 3, "ping": 3, "ssh": 9, "until ready": 15, "delete": 7}
    by_banner = figures([one], ServersOptions(count=1))[3]
    assert by_banner.spread is not None
    assert by_banner.spread.p50_s == 4
    without_ping = figures([one], ServersOptions(count=1, phases=(Phase.CREATE, Phase.SSH)))[2]
    assert without_ping.spread is not None
    assert without_ping.name == "ssh"


def test_only_servers_that_exist_are_to_be_deleted() -> None:
    there, never = record(0, delete_requested=1.0, gone=2.0), record(1)
    never.id = None
    assert [(row.ok, row.total) for row in figures([there, never], UP_AND_DOWN) if row.name == "delete"] == [(1, 1)]


def test_faults_that_differ_in_ids_only_are_one() -> None:
    records = [record(number) for number in range(4)]
    for number in range(3):
        text = f"no address 10.0.0.{number} for 0000000{number}-1111-2222-3333-444444444444"
        records[number].fail(Phase.CREATE, text, 1.0)
    records[3].fail(Phase.PING, "silence", 1.0)
    assert faults(records) == [
        Fault(Phase.CREATE, "no address <address> for <id>", 3),
        Fault(Phase.PING, "silence", 1),
    ]


def test_the_first_failure_counts_and_a_failed_removal_beside_it() -> None:
    one = record(0)
    one.fail(Phase.PING, "silence", 1.0)
    one.fail(Phase.DELETE, "it stays", 2.0)
    assert (one.failed_phase, one.fault, one.failed_at_s, one.delete_fault) == (Phase.PING, "silence", 1.0, "it stays")
    assert faults([one]) == [Fault(Phase.PING, "silence", 1), Fault(Phase.DELETE, "it stays", 1)]


def test_a_failed_removal_alone_is_one_fault() -> None:
    one = record(0)
    one.fail(Phase.DELETE, "it stays", 2.0)
    assert faults([one]) == [Fault(Phase.DELETE, "it stays", 1)]


def test_request_ids_are_taken_out() -> None:
    assert anonymous("req 0123456789abcdef0123456789abcdef failed") == "req <id> failed"


def test_shared_addresses() -> None:
    records = [record(number) for number in range(4)]
    for one, address in zip(records, ["10.0.0.1", "10.0.0.2", "10.0.0.1", None], strict=True):
        one.address = address
    assert shared_addresses(records) == ["10.0.0.1"]

import pytest

from host.agents import GROUP, NETWORK, server
from muster.domain.messages import Desired, next_epoch
from muster.domain.specs import Power, ServerSpec
from muster.host.desired import Changes, DesiredState


def told(from_seq: int, to_seq: int, *servers: ServerSpec, everything: bool = False) -> Desired:
    return Desired(host_id="h", from_seq=from_seq, to_seq=to_seq, servers=servers, everything=everything)


@pytest.fixture
def state() -> DesiredState:
    state = DesiredState()
    state.apply(told(0, 5, server("a"), everything=True))
    return state


def test_before_the_first_snapshot_nothing_is_complete() -> None:
    state = DesiredState()
    assert state.apply(told(0, 3, server("a"))).servers == ("a",)
    assert (state.seq, state.complete, state.behind) == (0, False, True)
    state.apply(told(0, 2, everything=True))
    assert (state.seq, state.complete, state.behind) == (3, True, False)
    assert "a" in state.servers.specs, "told after the snapshot was taken"


def test_the_highest_generation_stays(state: DesiredState) -> None:
    assert state.apply(told(5, 6, server("a", 3))).servers == ("a",)
    assert state.apply(told(6, 7, server("a", 2))).servers == ()
    assert state.apply(told(6, 7, server("a", 3))).servers == ()
    assert (state.servers.specs["a"].generation, state.seq) == (3, 7)


def test_a_gap_is_seen_and_closes_when_what_was_late_comes(state: DesiredState) -> None:
    assert state.apply(told(6, 7, server("b"))).servers == ("b",)
    assert (state.seq, state.behind) == (5, True)
    state.apply(told(5, 6, server("c")))
    assert (state.seq, state.behind) == (7, False)


def test_a_snapshot_removes_what_was_told_before_it_only(state: DesiredState) -> None:
    state.apply(told(7, 8, server("b")))
    assert state.apply(told(0, 6, everything=True)).gone == ("a",)
    assert state.servers.specs.keys() == {"b"}
    assert (state.seq, state.behind) == (6, True)


@pytest.mark.parametrize("late", [told(0, 5, server("a"), everything=True), told(4, 5, server("a"))])
def test_what_is_late_brings_nothing_back(state: DesiredState, late: Desired) -> None:
    """A late snapshot once made a removed server anew."""
    state.apply(told(5, 6, server("a", 2, Power.ABSENT)))
    state.apply(told(0, 7, everything=True))
    assert not state.servers.specs
    changes = state.apply(late)
    assert (changes.servers, changes.gone, state.seq) == ((), (), 7)
    assert not state.servers.specs


def test_networks_and_groups_go_by_their_own_generations(state: DesiredState) -> None:
    message = Desired(host_id="h", from_seq=5, to_seq=6, networks=(NETWORK,), groups=(GROUP,))
    changes = state.apply(message)
    assert (changes.networks, changes.groups) == (("net",), ("group",))
    assert state.apply(message).networks == ()
    state.apply(told(0, 6, everything=True))
    assert not state.networks.specs


def test_what_waits_for_a_gap_is_bounded() -> None:
    state = DesiredState()
    for number in range(5_000):
        state.apply(told(2 * number, 2 * number + 1))
    assert len(state._ahead) <= 1_000


def test_a_new_epoch_begins_anew(state: DesiredState) -> None:
    """The database was set back: what it says now counts, though its generations are lower than known ones."""
    state.apply(told(5, 6, server("a", 9), server("b", 9), server("c")))
    first = next_epoch(6)
    changes = state.apply(told(0, first, server("a", 2), server("d"), everything=True))
    assert (changes.servers, changes.gone, changes.anew) == (("a", "d"), ("b", "c"), True)
    assert state.servers.specs["a"].generation == 2
    assert (state.seq, state.behind) == (first, False)
    assert state.apply(told(first, first + 1, server("a", 3))).servers == ("a",)


@pytest.mark.parametrize("told_again", [server("b"), server("a", 2, boot_nonce=1), server("a", 3)])
def test_a_number_that_now_tells_something_else_is_of_a_database_that_was_set_back(
    state: DesiredState, told_again: ServerSpec
) -> None:
    """Nothing else shows it where the database has reached the number again before the host's next heartbeat."""
    state.apply(told(5, 6, server("a", 2)))
    state.apply(told(5, 6, told_again))
    assert state.behind
    state.apply(told(0, 5, everything=True))
    assert state.behind, "that is not all"
    changes = state.apply(told(0, 6, *{"a": server("a", 2), told_again.id: told_again}.values(), everything=True))
    assert state.servers.specs[told_again.id] == told_again
    assert (set(changes.servers) <= {told_again.id}, state.behind) == (True, False)


def test_a_snapshot_changes_nothing_that_has_its_generation_already(state: DesiredState) -> None:
    """What has no order in a database may be told in another one each time: that is no reason to plumb all anew."""
    changes = state.apply(told(0, 6, server("a", ports=()), everything=True))
    assert (changes.servers, state.servers.specs["a"]) == ((), server("a"))


@pytest.mark.parametrize("late", [server("a"), server("a", 2), server("gone", 2, Power.ABSENT)])
def test_what_is_doubled_or_late_raises_no_doubt(state: DesiredState, late: ServerSpec) -> None:
    state.apply(told(5, 6, server("a", 2)))
    state.apply(told(5, 6, late))
    assert not state.behind


def test_what_an_older_epoch_told_is_not_heard_any_more(state: DesiredState) -> None:
    first = next_epoch(5)
    state.apply(told(0, first, server("a", 1), everything=True))
    for late in (told(5, 6, server("a", 9), server("b")), told(0, 7, server("b"), everything=True)):
        assert state.apply(late) == Changes()
    assert (state.servers.specs["a"].generation, set(state.servers.specs)) == (1, {"a"})
    assert (state.seq, state.behind) == (first, False)


def test_a_change_of_a_new_epoch_waits_for_its_snapshot(state: DesiredState) -> None:
    first = next_epoch(5)
    assert state.apply(told(first, first + 1, server("a", 2))) == Changes()
    assert (state.behind, state.servers.specs["a"].generation) == (True, 1)
    state.apply(told(0, first + 1, server("a", 2), everything=True))
    assert (state.behind, state.seq) == (False, first + 1)

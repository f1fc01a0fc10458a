import pytest

from host.agents import GROUP, NETWORK, server
from muster.domain.messages import Desired
from muster.domain.specs import Power, ServerSpec
from muster.host.desired import DesiredState


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

"""Members of security groups, told whole and by changes, on a bus that loses, doubles and reorders: what a host knows
was true at some time, never turns older, and what it misses it knows to be missing."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from muster.domain.group_members import Member, member_changes, with_members
from muster.domain.messages import Desired
from muster.domain.specs import GroupMembers, NetworkSpec, RuleSpec, SecurityGroupSpec
from muster.host.desired import DesiredState

ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.0/24")
RULE = RuleSpec(id="r", direction="ingress", ethertype="IPv4")


def whole(generation: int, members: int, *addresses: str) -> SecurityGroupSpec:
    return SecurityGroupSpec(
        id="g", generation=generation, member_generation=members, rules=(RULE,) * generation, members=addresses
    )


def desired(
    seq: int, *groups: SecurityGroupSpec, members: tuple[GroupMembers, ...] = (), everything: bool = False
) -> Desired:
    return Desired(host_id="h", from_seq=seq - 1, to_seq=seq, groups=groups, members=members, everything=everything)


def joins(generation: int, *addresses: str) -> GroupMembers:
    return GroupMembers(id="g", generation=generation, joined=addresses)


def test_rules_and_members_have_generations_of_their_own() -> None:
    state = DesiredState()
    state.apply(desired(1, whole(1, 1, "10.0.0.1"), everything=True))
    state.apply(desired(3, members=(joins(2, "10.0.0.2"),)))
    # It was made before the change of members, but its rules are newer.
    assert state.apply(desired(2, whole(2, 1, "10.0.0.1"))).groups == ("g",)
    assert state.groups.specs["g"] == whole(2, 2, "10.0.0.1", "10.0.0.2")
    assert not state.behind
    assert state.apply(desired(2, whole(2, 1, "10.0.0.1"))).groups == ()


def test_a_change_waits_for_the_one_before_it() -> None:
    state = DesiredState()
    state.apply(desired(1, whole(1, 1), everything=True))
    assert state.apply(desired(3, members=(joins(3, "10.0.0.3"),))).groups == ()
    assert state.behind
    assert state.apply(desired(2, members=(joins(2, "10.0.0.2"),))).groups == ("g",)
    assert sorted(state.groups.specs["g"].members) == ["10.0.0.2", "10.0.0.3"]
    assert not state.behind


def test_a_change_of_a_group_that_is_not_known_is_missing_it_until_a_snapshot_says_otherwise() -> None:
    state = DesiredState()
    state.apply(desired(1, everything=True))
    state.apply(desired(2, members=(joins(5, "10.0.0.2"),)))
    assert state.behind
    state.apply(desired(2, everything=True))
    assert not state.behind
    # Nor does one wait whose members the host need not know.
    state.apply(desired(3, SecurityGroupSpec(id="g", generation=1), members=(joins(6, "10.0.0.2"),)))
    assert state.behind
    state.apply(desired(3, SecurityGroupSpec(id="g", generation=1), everything=True))
    assert not state.behind
    assert state.groups.specs["g"].members == ()


def test_a_change_after_the_snapshot_is_not_forgotten_with_it() -> None:
    state = DesiredState()
    state.apply(desired(1, whole(1, 1), everything=True))
    state.apply(desired(4, members=(joins(3, "10.0.0.3"),)))
    state.apply(desired(3, whole(1, 2, "10.0.0.2"), everything=True))
    assert sorted(state.groups.specs["g"].members) == ["10.0.0.2", "10.0.0.3"]
    assert not state.behind


STEPS = st.lists(st.tuples(st.sampled_from(ADDRESSES), st.booleans()), min_size=1, max_size=12)


@given(steps=STEPS, seed=st.integers(0, 2**32))
def test_whatever_arrives_in_whatever_order(steps: list[tuple[str, bool]], seed: int) -> None:
    rng, members = Random(seed), Counter[str]()
    messages, truth = [], [members.copy()]
    for number, (address, comes) in enumerate(steps, start=1):
        joined = comes or not members[address]
        members[address] += 1 if joined else -1
        truth.append(+members)
        parts = ((address,), ()) if joined else ((), (address,))
        change = GroupMembers(id="g", generation=number, joined=parts[0], left=parts[1])
        groups = (whole(1, number, *members.elements()),) if rng.random() < 0.2 else ()
        messages.append(desired(number, *groups, members=(change,)))
    state = DesiredState()
    state.apply(desired(0, whole(1, 0), everything=True))
    sent = [message for message in messages for _ in range(rng.choice((0, 1, 1, 1, 2)))]
    rng.shuffle(sent)
    for message in sent:
        state.apply(message)
        known = state.groups.specs["g"]
        assert Counter(known.members) == truth[known.member_generation]
    last = max((message.to_seq for message in sent), default=0)
    assert state.behind == (state.seq < last)
    if not state.behind:
        assert state.groups.specs["g"].member_generation == last
    state.apply(desired(len(steps), whole(1, len(steps), *members.elements()), everything=True))
    assert Counter(state.groups.specs["g"].members) == +members
    assert not state.behind


MEMBERS = st.lists(
    st.builds(
        Member,
        st.lists(st.sampled_from(("g", "h")), max_size=2, unique=True).map(tuple),
        st.lists(st.sampled_from(ADDRESSES), max_size=3).map(tuple),
    ),
    max_size=5,
)


@given(before=MEMBERS, after=MEMBERS)
def test_a_change_leads_from_one_list_to_the_other(before: list[Member], after: list[Member]) -> None:
    def listed(members: list[Member]) -> Counter[str]:
        return Counter(address for one in members if "g" in one.group_ids for address in one.addresses)

    change = member_changes(before, after).get("g")
    if change is None:
        assert listed(before) == listed(after)
        return
    group = whole(1, 1, *listed(before).elements())
    step = GroupMembers(id="g", generation=2, joined=change.joined, left=change.left)
    assert Counter(with_members(group, step).members) == listed(after)
    assert not set(change.joined) & set(change.left)


def test_a_networks_members_come_like_a_groups() -> None:
    state = DesiredState()
    plain = NetworkSpec(id="n", generation=2, segment_id=7)
    first = replace(plain, generation=1, member_generation=4, members=("192.0.2.1",))
    state.apply(Desired(host_id="h", from_seq=0, to_seq=1, everything=True, networks=(first,)))
    # A server brings its network, without members; a step brings a member; both change the network.
    changes = state.apply(Desired(host_id="h", from_seq=1, to_seq=2, networks=(plain,)))
    assert changes.networks == ("n",)
    step = GroupMembers(id="n", generation=5, joined=("192.0.2.2",), left=("192.0.2.1",))
    assert state.apply(Desired(host_id="h", from_seq=2, to_seq=3, peers=(step,))).networks == ("n",)
    assert state.networks.specs["n"] == replace(plain, member_generation=5, members=("192.0.2.2",))
    assert not state.behind
    state.apply(Desired(host_id="h", from_seq=3, to_seq=4, peers=(replace(step, generation=7),)))
    assert state.behind

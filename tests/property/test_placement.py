"""Placement never promises what is not there, keeps groups' policies, and finds a place wherever one is left."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from muster.domain.placement import Demand, GroupRule, HostPicture, Request, Strategy, place

ZONES = ("a", "b")
STRATEGIES = st.sampled_from(Strategy)
POLICIES = ("affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity")


@st.composite
def demands(draw, most: int = 6) -> Demand:
    number = st.integers(0, most)
    return Demand(vcpus=draw(number), ram_mib=draw(number), disk_gib=draw(number), servers=draw(number))


@st.composite
def clouds(draw) -> list[HostPicture]:
    count = draw(st.integers(0, 6))
    return [
        HostPicture(
            id=f"h{index}",
            hostname=f"name{index}",
            availability_zone=draw(st.sampled_from(ZONES)),
            firewall=False,
            free=draw(demands(20)),
            ram_limit_mib=20,
        )
        for index in range(count)
    ]


@st.composite
def batches(draw) -> list[Request]:
    rules = [
        GroupRule(
            f"g{index}",
            draw(st.sampled_from(POLICIES)),
            draw(st.dictionaries(st.sampled_from(["h0", "h1", "h2"]), st.integers(1, 2), max_size=2)),
            draw(st.integers(1, 2)),
        )
        for index in range(2)
    ]
    return [
        Request(
            server_id=f"s{index}",
            demand=draw(demands()),
            availability_zone=draw(st.sampled_from([None, None, *ZONES])),
            hostname=draw(st.sampled_from([None, None, None, "name0", "h1"])),
            group=draw(st.sampled_from([None, None, *rules])),
        )
        for index in range(draw(st.integers(0, 25)))
    ]


def _left(hosts: list[HostPicture], requests: list[Request], placed: dict[str, str]) -> dict[str, Demand]:
    free = {host.id: host.free for host in hosts}
    for request in requests:
        if request.server_id in placed:
            free[placed[request.server_id]] = free[placed[request.server_id]].minus(request.demand)
    return free


def _allowed(host: HostPicture, request: Request) -> bool:
    return request.availability_zone in (None, host.availability_zone) and request.hostname in (
        None,
        host.hostname,
        host.id,
    )


@settings(max_examples=80, deadline=None)
@given(clouds(), batches(), STRATEGIES)
def test_never_beyond_capacity_and_only_where_it_was_asked(hosts, requests, strategy) -> None:
    placed = place(hosts, requests, strategy)
    assert all(Demand().fits(left) for left in _left(hosts, requests, placed).values())
    by_id = {host.id: host for host in hosts}
    assert all(
        _allowed(by_id[placed[request.server_id]], request) for request in requests if request.server_id in placed
    )


@settings(max_examples=80, deadline=None)
@given(clouds(), batches(), STRATEGIES)
def test_what_has_no_place_fits_nowhere(hosts, requests, strategy) -> None:
    """With equal or other demands: a server without a group is left out only if no allowed host has room for it."""
    placed = place(hosts, requests, strategy)
    free = _left(hosts, requests, placed)
    for request in requests:
        if request.group is None and request.server_id not in placed:
            assert not any(_allowed(host, request) and request.demand.fits(free[host.id]) for host in hosts)


@settings(max_examples=80, deadline=None)
@given(clouds(), demands(), st.integers(0, 60), STRATEGIES)
def test_of_equal_demands_as_many_are_placed_as_there_is_room_for(hosts, demand, count, strategy) -> None:
    requests = [Request(server_id=f"s{index}", demand=demand) for index in range(count)]
    room = 0
    for host in hosts:
        amounts = (
            (demand.vcpus, host.free.vcpus),
            (demand.ram_mib, host.free.ram_mib),
            (demand.disk_gib, host.free.disk_gib),
            (demand.servers, host.free.servers),
        )
        room += min((free // each for each, free in amounts if each), default=count)
    assert len(place(hosts, requests, strategy)) == min(count, room)


@settings(max_examples=80, deadline=None)
@given(clouds(), batches(), STRATEGIES)
def test_policies_of_groups_hold(hosts, requests, strategy) -> None:
    placed = place(hosts, requests, strategy)
    for rule in {request.group.id: request.group for request in requests if request.group}.values():
        new = Counter(placed[r.server_id] for r in requests if r.group == rule and r.server_id in placed)
        after = Counter(rule.members) + new
        if rule.policy == "anti-affinity":
            assert all(after[host_id] <= rule.max_per_host for host_id in new)
        if rule.policy == "affinity":
            assert new.keys() <= rule.members.keys() if rule.members else len(new) <= 1


@settings(max_examples=80, deadline=None)
@given(clouds(), batches(), STRATEGIES)
def test_the_same_picture_gives_the_same_plan_and_is_left_as_it_was(hosts, requests, strategy) -> None:
    before = [dict(request.group.members) for request in requests if request.group]
    assert place(hosts, requests, strategy) == place(hosts, requests, strategy)
    assert [dict(request.group.members) for request in requests if request.group] == before


def _left_of(request: Request, hosts: list[HostPicture], free: dict[str, Demand]) -> list[int]:
    fitting = [host.id for host in hosts if _allowed(host, request) and request.demand.fits(free[host.id])]
    return [free[host_id].ram_mib for host_id in fitting]


@settings(max_examples=80, deadline=None)
@given(clouds(), batches(), STRATEGIES)
def test_each_server_is_where_the_most_or_the_least_memory_is_left(hosts, requests, strategy) -> None:
    """Whatever is asked for: of the hosts that can take a server, at its turn, the extreme one gets it."""
    placed = place(hosts, requests, strategy)
    free = {host.id: host.free for host in hosts}
    for request in (request for request in requests if request.server_id in placed):
        host_id = placed[request.server_id]
        extreme = min if strategy is Strategy.PACK else max
        if request.group is None:
            assert free[host_id].ram_mib == extreme(_left_of(request, hosts, free))
        free[host_id] = free[host_id].minus(request.demand)

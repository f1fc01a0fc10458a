"""The search finds the knee of made-up clouds: monotone ones, noisy ones, and such that give no more guests."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster.base.errors import Invalid
from muster.fit.find import Full, find
from muster.fit.observer import SilentObserver
from muster.fit.options import FitOptions
from muster.fit.records import Answers, Room, Step, advise
from muster.fit.search import MOST_TRIES, Search, verdict

ROOM = Room(hosts=("h",), vcpus=8, ram_mib=10_000, reserved_mib=1_000, guest_vcpus=1, guest_ram_mib=1_000)


class FakeCloud:
    """Response times grow slowly up to `knee` guests and steeply beyond; every so many measures are spoilt by noise."""

    def __init__(self, knee: int, *, most: int = 1_000, noise: float = 0.0, seed: int = 1) -> None:
        self.knee, self.most, self.noise = knee, most, noise
        self.rng = Random(seed)
        self.guests = 0
        self.history: list[int] = []

    async def resize(self, guests: int) -> None:
        self.history.append(guests)
        if guests > self.most:
            raise Full("No valid host was found")
        self.guests = guests

    async def measure(self) -> Answers:
        slow = self.guests > self.knee
        if self.noise and self.rng.random() < self.noise:
            slow = not slow
        base_s = 3.0 if slow else 0.1
        return Answers(round_trips_s=[base_s * self.rng.uniform(0.9, 1.1) for _ in range(100)], saved_mib=7.0)


async def run(cloud: FakeCloud, **more: object) -> tuple[list[Step], Search]:
    steps, search, failure = await find(cloud, ROOM, FitOptions(**more), SilentObserver())
    assert failure is None
    return steps, search


@pytest.mark.parametrize("knee", [1, 2, 3, 10, 17, 39])
async def test_the_knee_is_found_whatever_the_steps(knee: int) -> None:
    for start, step in ((1, 1), (1, 4), (5, 7), (20, 3)):
        cloud = FakeCloud(knee)
        _, search = await run(cloud, start=start, step=step, most=50)
        assert search.best == knee, (start, step, cloud.history)


async def test_it_goes_up_in_steps_and_down_by_halves_and_looks_at_the_winner_again() -> None:
    cloud = FakeCloud(knee=11)
    await run(cloud, start=1, step=6, most=50)
    assert cloud.history == [1, 7, 13, 13, 10, 11, 12, 12, 11]


async def test_a_host_that_holds_all_that_may_be_tried() -> None:
    cloud = FakeCloud(knee=100)
    steps, search = await run(cloud, start=1, step=4, most=10)
    assert cloud.history == [1, 5, 9, 10]
    advice = advise(search.best, ROOM, steps, hit_most=search.hit_most)
    assert (advice.guests, advice.limited_by) == (10, "most")


async def test_a_cloud_that_gives_no_more_is_asked_for_as_many_once_only() -> None:
    cloud = FakeCloud(knee=100, most=6)
    steps, search = await run(cloud, start=2, step=3, most=50)
    assert cloud.history == [2, 5, 8, 6, 7, 6]
    advice = advise(search.best, ROOM, steps, hit_most=search.hit_most)
    assert (advice.guests, advice.limited_by) == (6, "cloud")
    assert [step.guests for step in steps if step.reason] == [8, 7]
    assert steps[2].reason == "No valid host was found"


async def test_a_cloud_that_holds_none() -> None:
    steps, search = await run(FakeCloud(knee=0), start=4, step=3, most=50)
    advice = advise(search.best, ROOM, steps, hit_most=search.hit_most)
    assert (advice.guests, advice.limited_by) == (0, "nothing")


async def test_single_measures_that_are_spoilt_move_the_answer_little() -> None:
    """One measure in twenty says the opposite of what is true: in 95 runs of 100 the answer is one off at most."""
    found = []
    for seed in range(100):
        _, search = await run(FakeCloud(knee=12, noise=0.05, seed=seed), start=1, step=3, most=50)
        found.append(search.best)
    assert sum(abs(best - 12) <= 1 for best in found) >= 95, found


async def test_one_spoilt_measure_on_the_way_up_is_measured_again() -> None:
    cloud = FakeCloud(knee=9)
    spoilt = iter([False, True] + [False] * 100)
    measure = cloud.measure

    async def measured() -> Answers:
        answers = await measure()
        return Answers(round_trips_s=[9.0]) if next(spoilt) else answers

    cloud.measure = measured  # type: ignore[method-assign]
    _, search = await run(cloud, start=1, step=4, most=50)
    assert search.best == 9
    assert cloud.history[:4] == [1, 5, 5, 5]


@given(st.randoms(use_true_random=False), st.integers(1, 20), st.integers(1, 9), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_it_ends_whatever_is_measured(rng: Random, start: int, step: int, most: int) -> None:
    search = Search(start, step, most)
    tries: dict[int, int] = {}
    while (guests := search.next()) is not None:
        assert 1 <= guests <= most
        tries[guests] = tries.get(guests, 0) + 1
        assert tries[guests] <= MOST_TRIES
        if rng.random() < 0.1:
            search.rule_out(guests)
        else:
            search.add(guests, within=rng.random() < 0.5)
    assert search.best == 0 or search.best in tries


@pytest.mark.parametrize(
    ("tries", "expected"),
    [
        ([True], True),
        ([False], None),
        ([False, False], False),
        ([False, True], None),
        ([True, False], None),
        ([True, False, True], True),
        ([True, False, False], False),
    ],
)
def test_verdict(tries: list[bool], expected: bool | None) -> None:
    assert verdict(tries) is expected


async def test_a_step_says_how_guests_answered_and_what_was_promised() -> None:
    steps, search = await run(FakeCloud(knee=9), start=9, step=3, most=12)
    assert (steps[0].guests, steps[0].probes, steps[0].saved_mib) == (9, 100, 7.0)
    assert steps[0].ram_ratio == pytest.approx(0.9)
    assert steps[0].cpu_ratio == pytest.approx(9 / 8)
    assert 90 <= (steps[0].p50_ms or 0) <= (steps[0].p95_ms or 0) <= (steps[0].p99_ms or 0) <= 110
    advice = advise(search.best, ROOM, steps, hit_most=False)
    assert (advice.ram_overcommit, advice.cpu_overcommit) == (1.0, 1.13), "of what is left; never rounded down"


@pytest.mark.parametrize(("percentile", "within"), [(50, True), (95, True), (99, False)])
async def test_the_bound_is_of_the_percentile_that_is_asked_for(percentile: int, within: bool) -> None:
    cloud = FakeCloud(knee=5)

    async def measured() -> Answers:
        return Answers(round_trips_s=[5.0] * 2 + [0.1] * 98, failed=2)

    cloud.measure = measured  # type: ignore[method-assign]
    steps, _ = await run(cloud, percentile=percentile, most=1)
    assert (steps[0].within, steps[0].failed) == (within, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": 0},
        {"start": 9, "most": 8},
        {"step": 0},
        {"bound_ms": 0},
        {"bound_ms": 30_000.0},
        {"percentile": 90},
        {"measure_s": 0.5},
        {"every_s": 0},
        {"probe": "one\ntwo"},
        {"probe": " "},
        {"ssh_port": 0},
        {"host_ram_mib": 0},
        {"settle_s": -1},
    ],
)
def test_options_that_make_no_run_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        FitOptions(**wrong)


def test_a_host_is_asked_for_as_nova_names_it() -> None:
    assert FitOptions().zone is None
    assert FitOptions(availability_zone="z").zone == "z"
    assert FitOptions(host="h").zone == "nova:h"
    assert FitOptions(host="h", availability_zone="z").zone == "z:h"

"""Plans of addresses against the simplest model there is: a set of free numbers and a list of resting ones."""

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given, settings
from hypothesis import strategies as st

from muster.domain.addresses import Range, SubnetPlan, Taken, subtract, to_number, to_text

NUMBERS = st.integers(0, 40)


def _numbers(ranges: list[Range]) -> list[int]:
    return [number for one in ranges for number in range(one.first, one.last + 1)]


def _ranges(numbers: set[int]) -> list[Range]:
    return subtract([Range(0, 40)], set(range(41)) - numbers)


Picture = tuple[set[int], list[int], list[int], set[int]]


@st.composite
def pictures(draw) -> Picture:
    """Free, rested, resting (both in the order of reuse) and held numbers, which have none in common."""
    places = ["free", "free", "rested", "resting", "held", "outside"]
    kinds = draw(st.lists(st.sampled_from(places), min_size=41, max_size=41))
    by_kind = {place: [number for number, kind in enumerate(kinds) if kind == place] for place in places}
    return (
        set(by_kind["free"]),
        draw(st.permutations(by_kind["rested"])),
        draw(st.permutations(by_kind["resting"])),
        set(by_kind["held"]),
    )


def _plan(picture: Picture) -> SubnetPlan:
    free, rested, resting, held = picture
    return SubnetPlan(_ranges(free), rested, held, resting)


class Model:
    """What a plan should do, said in sets."""

    def __init__(self, picture: Picture) -> None:
        free, rested, resting, held = picture
        self.free, self.rested, self.resting, self.held = set(free), list(rested), list(resting), set(held)

    def take_any(self) -> int | None:
        if self.rested:
            number = self.rested.pop(0)
        elif self.free:
            number = min(self.free)
            self.free.remove(number)
        elif self.resting:
            number = self.resting.pop(0)
        else:
            return None
        self.held.add(number)
        return number

    def take_given(self, number: int) -> Taken:
        if number in self.held:
            return Taken.HELD
        self.free.discard(number)
        for queue in (self.rested, self.resting):
            if number in queue:
                queue.remove(number)
        self.held.add(number)
        return Taken.GIVEN


@settings(max_examples=150, deadline=None)
@given(pictures(), st.lists(st.one_of(st.none(), NUMBERS), max_size=50))
def test_a_plan_gives_what_the_model_gives_and_accounts_for_it(picture, wants) -> None:
    plan, model = _plan(picture), Model(picture)
    taken: list[int] = []
    for want in wants:
        if want is None:
            number = plan.take_any()
            assert number == model.take_any()
            taken += [] if number is None else [number]
        else:
            outcome = plan.take_given(want)
            assert outcome is model.take_given(want)
            taken += [want] if outcome is Taken.GIVEN else []
    assert len(set(taken)) == len(taken)
    _check(plan, picture, taken)


def _check(plan: SubnetPlan, picture: Picture, taken: list[int]) -> None:
    """What the plan tells the store to change makes exactly the taken numbers given, and nothing else."""
    free, rested, resting, _ = picture
    removed, added = _numbers(plan.removed), _numbers(plan.added)
    assert len(set(added)) == len(added)
    assert set(plan.removed) <= set(_ranges(free))
    assert (free - set(removed)) | set(added) == free - set(taken)
    assert plan.reclaimed == {*rested, *resting} & set(taken)
    assert plan.outside == set(taken) - free - {*rested, *resting}


@settings(max_examples=150, deadline=None)
@given(pictures(), st.lists(st.tuples(st.one_of(st.none(), NUMBERS), st.booleans()), max_size=50))
def test_what_is_put_back_is_as_if_it_had_never_been_taken(picture, steps) -> None:
    plan = _plan(picture)
    kept: list[int] = []
    for want, keep in steps:
        number = plan.take_any() if want is None else want
        if number is None or (want is not None and plan.take_given(want) is Taken.HELD):
            continue
        if keep:
            kept.append(number)
        else:
            plan.put_back(number)
            assert plan.take_given(number) is Taken.GIVEN  # it can be had again
            plan.put_back(number)
    _check(plan, picture, kept)


@settings(max_examples=150, deadline=None)
@given(pictures(), st.lists(st.one_of(st.none(), NUMBERS), max_size=50))
def test_what_is_all_put_back_leaves_the_ranges_as_they_were(picture, wants) -> None:
    plan = _plan(picture)
    taken = [number for want in wants if (number := _taken(plan, want)) is not None]
    for number in taken[::2] + taken[1::2]:  # in another order
        plan.put_back(number)
    assert (plan.removed, plan.added, plan.reclaimed, plan.outside) == ([], [], set(), set())


def _taken(plan: SubnetPlan, want: int | None) -> int | None:
    if want is None:
        return plan.take_any()
    return want if plan.take_given(want) is Taken.GIVEN else None


@settings(max_examples=150, deadline=None)
@given(st.sets(NUMBERS), st.sets(NUMBERS))
def test_subtracting_is_a_difference_in_as_few_ranges_as_possible(numbers, holes) -> None:
    left = subtract(_ranges(numbers), holes)
    assert _numbers(left) == sorted(numbers - holes)
    assert len(left) == len(_ranges(numbers - holes))


@given(st.integers(0, 2**32 - 1))
def test_the_text_of_an_address_is_the_librarys(number: int) -> None:
    assert to_text(number, 4) == str(IPv4Address(number))
    assert to_text(number, 6) == str(IPv6Address(number))
    assert to_number(to_text(number, 4)) == number

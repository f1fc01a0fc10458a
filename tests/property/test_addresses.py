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


@st.composite
def pictures(draw) -> tuple[set[int], list[int], set[int]]:
    """Free, resting (in the order of reuse) and held numbers, which have none in common."""
    kinds = draw(st.lists(st.sampled_from(["free", "free", "resting", "held", "outside"]), min_size=41, max_size=41))
    resting = [number for number, kind in enumerate(kinds) if kind == "resting"]
    return (
        {number for number, kind in enumerate(kinds) if kind == "free"},
        draw(st.permutations(resting)),
        {number for number, kind in enumerate(kinds) if kind == "held"},
    )


class Model:
    """What a plan should do, said in sets."""

    def __init__(self, free: set[int], resting: list[int], held: set[int]) -> None:
        self.free, self.resting, self.held = set(free), list(resting), set(held)

    def take_any(self) -> int | None:
        if self.free:
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
        if number in self.resting:
            self.resting.remove(number)
        self.held.add(number)
        return Taken.GIVEN


@settings(max_examples=150, deadline=None)
@given(pictures(), st.lists(st.one_of(st.none(), NUMBERS), max_size=50))
def test_a_plan_gives_what_the_model_gives_and_accounts_for_it(picture, wants) -> None:
    free, resting, held = picture
    plan, model = SubnetPlan(_ranges(free), resting, held), Model(free, resting, held)
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
    _check(plan, free, resting, taken)


def _check(plan: SubnetPlan, free: set[int], resting: list[int], taken: list[int]) -> None:
    """What the plan tells the store to change makes exactly the taken numbers given, and nothing else."""
    removed, added = _numbers(plan.removed), _numbers(plan.added)
    assert len(set(added)) == len(added)
    assert set(plan.removed) <= set(_ranges(free))
    assert (free - set(removed)) | set(added) == free - set(taken)
    assert plan.reclaimed == set(resting) & set(taken)
    assert plan.outside == set(taken) - free - set(resting)


@settings(max_examples=150, deadline=None)
@given(pictures(), st.lists(st.tuples(st.one_of(st.none(), NUMBERS), st.booleans()), max_size=50))
def test_what_is_put_back_is_as_if_it_had_never_been_taken(picture, steps) -> None:
    free, resting, held = picture
    plan = SubnetPlan(_ranges(free), resting, held)
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
    _check(plan, free, resting, kept)


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

"""Which requests fit within quotas, and how many of what they want."""

from muster.domain.quotas import Ask, Refusal, Share, admit, admit_shares

LIMITS = {("p", "instances"): 10, ("p", "cores"): 20}


def _share(most: int, least: int = 1, cores: int = 1) -> Share:
    return Share("p", {"instances": 1, "cores": cores}, most=most, least=least)


def test_a_smaller_request_behind_a_refused_one_still_fits() -> None:
    asks = [Ask("p", {"instances": number}) for number in (8, 3, 2)]
    assert admit(asks, {}, LIMITS) == [None, Refusal("instances", 3, 8, 10), None]


def test_as_many_as_fit_if_that_is_enough() -> None:
    assert admit_shares([_share(15)], {}, LIMITS) == [10]
    assert admit_shares([_share(15, least=10)], {}, LIMITS) == [10]
    assert admit_shares([_share(15, least=11)], {}, LIMITS) == [Refusal("instances", 15, 0, 10)]


def test_the_scarcest_resource_decides() -> None:
    assert admit_shares([_share(15, cores=3)], {}, LIMITS) == [6]
    assert admit_shares([_share(15, least=7, cores=3)], {("p", "instances"): 0}, LIMITS) == [
        Refusal("instances", 15, 0, 10)
    ]
    assert admit_shares([_share(9, least=7, cores=3)], {}, LIMITS) == [Refusal("cores", 27, 0, 20)]


def test_requests_are_taken_in_order_and_what_is_in_use_counts() -> None:
    assert admit_shares([_share(4), _share(4), _share(4), _share(1)], {("p", "instances"): 1}, LIMITS) == [
        4,
        4,
        1,
        Refusal("instances", 1, 10, 10),
    ]


def test_what_is_over_already_takes_nothing_and_what_is_unlimited_takes_all() -> None:
    assert admit_shares([_share(1)], {("p", "instances"): 12}, LIMITS) == [Refusal("instances", 1, 12, 10)]
    assert admit_shares([_share(5_000)], {}, {("p", "instances"): -1}) == [5_000]

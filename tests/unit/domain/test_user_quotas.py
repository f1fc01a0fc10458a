"""What limits of projects and of their users may be set to, and what holds for a user of both."""

import pytest

from muster.base.errors import Invalid
from muster.domain.quotas import UNLIMITED, Ask, Refusal, Share, admit, admit_shares, limit_of_user, totals
from muster.domain.user_quotas import Settable, check, granted, of_project, of_user

P, ANN, BEN = ("p", "instances"), ("p", "ann", "instances"), ("p", "ben", "instances")


def _share(user_id: str, most: int, least: int = 1) -> Share:
    return Share("p", {"instances": 1, "port": 1}, most=most, least=least, user_id=user_id)


def test_the_lower_of_both_limits_decides_and_is_the_one_that_is_told() -> None:
    limits = {P: 10, ANN: 4}
    assert admit_shares([_share("ann", 9), _share("ben", 9)], {}, limits) == [4, 6]
    assert admit_shares([_share("ann", 9, least=5)], {P: 1, ANN: 1}, limits) == [Refusal("instances", 9, 1, 4)]
    assert admit_shares([_share("ann", 9)], {P: 10, ANN: 1}, limits) == [Refusal("instances", 9, 10, 10)]
    assert admit([Ask("p", {"instances": 5}, "ann"), Ask("p", {"instances": 5}, "ben")], {}, limits) == [
        Refusal("instances", 5, 0, 4),
        None,
    ]


def test_what_a_user_takes_counts_for_the_project_too_and_for_nobody_else() -> None:
    limits = {P: 10, ANN: 4, BEN: 7}
    assert admit_shares([_share("ann", 3), _share("ann", 3), _share("ben", 9)], {}, limits) == [3, 1, 6]
    asks = [Ask("p", {"instances": 2, "port": 2}, "ann"), Ask("p", {"instances": 1}, "ben"), Ask("p", {"port": 5})]
    assert totals(asks) == {P: 3, ANN: 2, BEN: 1, ("p", "port"): 7}


def test_the_limit_of_what_is_not_counted_is_the_lower_one() -> None:
    key, own = ("p", "key_pairs"), ("p", "ann", "key_pairs")
    for limits, limit in (({key: 5, own: 3}, 3), ({key: 5, own: 7}, 5), ({key: 5, own: -1}, 5), ({key: -1, own: 3}, 3)):
        assert limit_of_user(limits, "p", "ann", "key_pairs") == limit
    assert limit_of_user({}, "p", "ann", "key_pairs") == UNLIMITED


def test_a_users_limit_lies_between_what_he_has_and_what_the_project_has_left() -> None:
    users = {("ann", "instances"): 4, ("ben", "instances"): 3, ("cat", "instances"): -1, ("ann", "cores"): 9}
    assert (granted(users, "instances"), granted(users, "instances", but="ann")) == (7, 3)
    assert of_user(10, granted(users, "instances", but="ann"), 2) == Settable(2, 7)
    assert of_user(2, 3, 0) == Settable(0, 0)  # forced beyond the project's: nothing is left
    assert of_user(UNLIMITED, 3, 2) == Settable(2, UNLIMITED)
    assert of_project(10, 7, 8) == Settable(8)
    assert of_project(10, 7, 5) == Settable(7)
    assert of_project(UNLIMITED, 7, 5) == Settable(5)


def test_what_lies_outside_is_refused_in_novas_words() -> None:
    for limit in (2, 7):
        check("instances", limit, Settable(2, 7))
    check("instances", UNLIMITED, Settable(2))
    with pytest.raises(Invalid, match="1 for instances must be greater than or equal to already used and reserved 2"):
        check("instances", 1, Settable(2, 7))
    for limit in (8, UNLIMITED):
        with pytest.raises(Invalid, match=f"Quota limit {limit} for instances must be less than or equal to 7"):
            check("instances", limit, Settable(2, 7))

"""What makes a run and what does not."""

from typing import Any

import pytest

from muster.base.errors import Invalid
from muster.bench.options import Phase, ServersOptions, parse_phases


@pytest.mark.parametrize(
    "changes",
    [
        {"count": 0},
        {"count": 10**9},
        {"concurrency": 0},
        {"max_alive": 0},
        {"rate_per_s": 0.0},
        {"rate_per_s": float("nan")},
        {"rate_per_s": 3.0, "batch": True},
        {"timeout_s": 0.0},
        {"timeout_s": float("nan")},
        {"phases": ()},
        {"phases": (Phase.DELETE,)},
        {"batch": True, "max_alive": 3},
        {"login": True, "phases": (Phase.CREATE,)},
        {"keep": True},
        {"rolling": True, "phases": (Phase.CREATE,)},
        {"rolling": True, "batch": True},
        {"ssh_port": 0},
    ],
)
def test_what_makes_no_run_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        ServersOptions(**changes)


def test_phases_are_put_in_order() -> None:
    assert parse_phases("delete, create") == (Phase.CREATE, Phase.DELETE)


def test_unknown_phases_are_named() -> None:
    with pytest.raises(Invalid, match="dance"):
        parse_phases("create,dance")


@pytest.mark.parametrize(
    ("phases", "given", "wanted"),
    [
        ("create,delete", None, False),
        ("create,ping", None, True),
        ("create,ssh", None, True),
        ("create,ssh", "g", False),
    ],
)
def test_a_security_group_is_made_only_where_one_is_needed(phases: str, given: str | None, wanted: bool) -> None:
    options = ServersOptions(phases=parse_phases(phases), security_group=given)
    assert options.wants_security_group is wanted


def test_a_login_needs_a_key() -> None:
    assert ServersOptions(login=True).wants_key
    assert not ServersOptions().wants_key


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "10 servers at once"),
        ({"max_alive": 10}, "10 servers at once"),
        ({"max_alive": 2}, "10 servers, 2 at a time"),
        ({"rate_per_s": 2.5}, "10 servers, 2.5 per second"),
    ],
)
def test_how_many_at_a_time_is_said(options: dict[str, Any], said: str) -> None:
    assert ServersOptions(count=10, **options).crowd == said

"""Small decisions of identity: filters, options, tags, multi-factor rules, URLs, implied roles."""

import pytest

from muster.base.errors import Forbidden, Invalid
from muster.domain.attribute_filters import PAGE_LIMIT, Filter, Page, parse_filters, parse_flag, parse_page
from muster.domain.authentication import satisfies_rules
from muster.domain.catalog import CatalogService, Endpoint, own_entries, render_catalog, resolve_url
from muster.domain.projects import check_tags, clean_name
from muster.domain.resource_options import USER_OPTIONS, merge_options, require_mutable
from muster.domain.roles import Implication, check_implication, implied_by


def test_filters_are_parsed() -> None:
    query = [("name", "a"), ("name__icontains", "b"), ("enabled", "0"), ("name__regex", "c"), ("other", "d")]
    assert parse_filters(query, ["name"], ["enabled"]) == [
        Filter("name", "a"),
        Filter("name", "b", "contains", True),
        Filter("enabled", False),
    ]


@pytest.mark.parametrize(("text", "value"), [("", True), ("1", True), ("true", True), ("0", False), ("False", False)])
def test_flags(text: str, value: bool) -> None:
    assert parse_flag(text) is value


def test_pages() -> None:
    assert parse_page([]) == Page(PAGE_LIMIT, None)
    assert parse_page([("limit", "5"), ("marker", "x")]) == Page(5, "x")
    assert parse_page([("limit", "999999999")]).limit == PAGE_LIMIT
    for bad in ("0", "-1", "x", "", "1.5", "9999999999", "²", "٣"):
        with pytest.raises(Invalid):
            parse_page([("limit", bad)])


def test_options() -> None:
    assert merge_options({"immutable": True}, {"immutable": None}) == {}
    assert merge_options({}, {"lock_password": True}, USER_OPTIONS) == {"lock_password": True}
    for bad in ({"x": 1}, {"immutable": 1}, {"immutable": "true"}):
        with pytest.raises(Invalid):
            merge_options({}, bad)


def test_immutable() -> None:
    require_mutable("role", {})
    require_mutable("role", {"immutable": True}, {"immutable": False})
    require_mutable("role", {"immutable": True}, {"immutable": None})
    for changes in (None, {}, {"immutable": True}):
        with pytest.raises(Forbidden):
            require_mutable("role", {"immutable": True}, changes)


def test_names_and_tags() -> None:
    assert clean_name("  a b ") == "a b"
    assert check_tags(["b", "a", "b"]) == ("a", "b")
    with pytest.raises(Invalid):
        clean_name(" \t")


@pytest.mark.parametrize(
    ("options", "methods", "enough"),
    [
        ({}, ["password"], True),
        ({"multi_factor_auth_rules": [["password", "token"]]}, ["password"], True),
        ({"multi_factor_auth_enabled": True}, ["password"], True),
        ({"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [["password", "token"]]}, ["password"], False),
        (
            {"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [["password", "token"]]},
            ["password", "token"],
            True,
        ),
        ({"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [["password", "totp"]]}, ["password"], True),
        ({"multi_factor_auth_enabled": True, "multi_factor_auth_rules": [[]]}, ["password"], True),
    ],
)
def test_multi_factor_rules(options: dict[str, object], methods: list[str], enough: bool) -> None:
    assert satisfies_rules(options, methods) is enough


@pytest.mark.parametrize(
    ("url", "project_id", "expected"),
    [
        ("http://x/v1", None, "http://x/v1"),
        ("/compute/v2.1", None, "https://cloud/compute/v2.1"),
        ("http://x/$(project_id)s", "p", "http://x/p"),
        ("http://x/%(tenant_id)s", "p", "http://x/p"),
        ("http://x/$(project_id)s", None, None),
        ("http://x/$(user_id)s", None, "http://x/u"),
    ],
)
def test_urls(url: str, project_id: str | None, expected: str | None) -> None:
    assert resolve_url(url, "https://cloud", project_id, "u") == expected


def test_what_is_disabled_is_not_in_the_catalog() -> None:
    services = [CatalogService(id="a", type="a"), CatalogService(id="b", type="b", enabled=False)]
    endpoints = [
        Endpoint(id="1", service_id="a", interface="public", url="http://a"),
        Endpoint(id="2", service_id="a", interface="admin", url="http://a", enabled=False),
        Endpoint(id="3", service_id="b", interface="public", url="http://b"),
    ]
    (entry,) = render_catalog(services, endpoints, "", None, "u")
    assert [one["id"] for one in entry["endpoints"]] == ["1"]


def test_own_entries_stand_behind_their_base() -> None:
    assert {entry.url for entry in own_entries("http://c:1/")} >= {"http://c:1/identity", "http://c:1/compute/v2.1"}
    assert all(entry.url.startswith("/") for entry in own_entries())


def test_circles_of_roles_are_refused() -> None:
    rules = [Implication("a", "b"), Implication("b", "c")]
    assert implied_by(["a"], rules) == {"a": None, "b": "a", "c": "b"}
    check_implication(Implication("a", "c"), rules)
    for circle in (Implication("c", "a"), Implication("b", "a"), Implication("x", "x")):
        with pytest.raises(Invalid):
            check_implication(circle, rules)

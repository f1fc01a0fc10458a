"""Automata find what Python's regular expressions find, and never take long."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.patterns import pattern_of
from muster.domain.server_listing import like

_ATOMS = st.sampled_from(
    ["a", "b", ".", "1", "-", r"\.", r"\d", r"\W", "[ab]", "[^a1]", "[a-b-]", r"[\d_]", "[B1]", "(?:)"]
)
_COUNTS = st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{,2}", "{0,1}", "*?", "+?", "{1,2}?"])


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    groups = inner.map(lambda text: f"({text})")
    repeated = st.tuples(st.one_of(_ATOMS, groups), _COUNTS).map("".join)
    choices = st.tuples(inner, inner).map("|".join)
    return st.one_of(st.lists(st.one_of(_ATOMS, groups, repeated), min_size=1, max_size=4).map("".join), choices)


_PATTERNS = st.recursive(_ATOMS, _grown, max_leaves=8)


@given(st.sampled_from(["", "^"]), _PATTERNS, st.sampled_from(["", "$"]), st.text("abAB1-._", max_size=6))
def test_the_same_is_found(start: str, inside: str, end: str, text: str) -> None:
    pattern = f"{start}{inside}{end}"
    read = pattern_of(pattern)
    assert read is not None, pattern
    found = bool(re.search(pattern, text, re.IGNORECASE | re.DOTALL))
    assert read.finds(text) == found, (pattern, text)
    assert not found or any(_like(one).fullmatch(text) for one in like(pattern)), (pattern, text)


def _like(text: str) -> re.Pattern[str]:
    parts = re.findall(r"\\.|.", text, re.DOTALL)
    found = "".join({"%": ".*", "_": "."}.get(part) or re.escape(part[-1]) for part in parts)
    return re.compile(found, re.DOTALL | re.IGNORECASE)


@pytest.mark.parametrize(
    ("pattern", "found", "missed"),
    [
        ("web-[0-9]+", "my-web-12", "web-x"),
        ("many-[12]$", "many-2", "many-3"),
        (r"^(web|db)-\d{2,3}\.example$", "DB-007.example", "db-0007.example"),
        ("^$", "", "a"),
        ("[^ -~]", "\N{LATIN SMALL LETTER E WITH ACUTE}", "e"),
        ("a|^b$|c", "xc", "xb"),
    ],
)
def test_patterns_of_users(pattern: str, found: str, missed: str) -> None:
    read = pattern_of(pattern)
    assert read is not None
    assert read.finds(found)
    assert not read.finds(missed)


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|aa)+b", "(a+)+b", "(.*a){11}b"])
def test_nothing_takes_for_ever(pattern: str) -> None:
    read = pattern_of(pattern)
    assert read is not None
    assert not read.finds("a" * 255)


@pytest.mark.parametrize(
    "pattern",
    ["(?=a)", "(?!a)", "(?P<n>a)", r"a\b", r"(a)\1", "a{129}", "(a{16}){16}", "x" * 256, "a*+", "[[:alpha:]]"],
)
def test_what_is_not_offered(pattern: str) -> None:
    assert pattern_of(pattern) is None

"""Patterns find what Python's regular expressions find, never take long, and LIKE finds no less."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.domain.patterns import pattern_of
from muster.domain.server_listing import like

_CLASSES = ["[ab]", "[^a1]", "[a-b-]", r"[\d_]", "[B1]", "[[:alpha:]]", "[^[:digit:]-]"]
_ATOMS = st.sampled_from(["a", "b", ".", "1", "-", r"\.", r"\d", r"\W", "(?:)", *_CLASSES])
_EDGE = st.just(r"\b")
_COUNTS = st.sampled_from(["*", "+", "?", "{2}", "{1,}", "{,2}", "{0,1}", "*?", "+?", "{1,2}?"])


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    groups = inner.map(lambda text: f"({text})")
    repeated = st.tuples(st.one_of(_ATOMS, groups), _COUNTS).map("".join)
    choices = st.tuples(inner, inner).map("|".join)
    return st.one_of(st.lists(st.one_of(_ATOMS, _EDGE, groups, repeated), min_size=1, max_size=4).map("".join), choices)


_PATTERNS = st.recursive(_ATOMS, _grown, max_leaves=8)


@given(st.sampled_from(["", "^"]), _PATTERNS, st.sampled_from(["", "$"]), st.text("abAB1-._", max_size=6))
def test_the_same_is_found(start: str, inside: str, end: str, text: str) -> None:
    pattern = f"{start}{inside}{end}"
    read = pattern_of(pattern)
    assert read is not None, pattern
    in_python = pattern.replace("[:alpha:]", "a-z").replace("[:digit:]", "0-9")
    assert read.finds(text) == bool(re.search(in_python, text, re.IGNORECASE | re.DOTALL)), (pattern, text)
    assert not read.finds(text) or _is_like(pattern, text), (pattern, text)


_ESCAPES = [r"\b", r"\B", r"\d", r"\Q", r"\1", r"\_"]
_PIECES = [*r"aaab1.*+?(|)[]{},^$\-:", "(?:", "(?", "[[:", ":]", "[^", "alpha", *_ESCAPES]


@given(st.lists(st.sampled_from(_PIECES), max_size=8).map("".join), st.text(r"ab1-_[](){}:^$\|,", max_size=5))
def test_like_finds_whatever_a_pattern_finds(pattern: str, text: str) -> None:
    read = pattern_of(pattern)
    assert read is None or not read.finds(text) or _is_like(pattern, text)


def _is_like(pattern: str, text: str) -> bool:
    return any(_like(one).fullmatch(text) for one in like(pattern))


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
        (r"\bweb\b", "my-web-1", "webs"),
        (r"web\B", "webs", "web-1"),
        ("^[[:alpha:]]+-[[:digit:]]$", "Web-1", "web-a"),
        ("^[[:upper:]]{,2}$", "ab", "abc"),
        ("^\N{LATIN SMALL LETTER E WITH ACUTE}.$", "\N{LATIN CAPITAL LETTER E WITH ACUTE}\N{SNOWMAN}", "e1"),
        ("a.b", "a\nb", "ab"),
    ],
)
def test_patterns_of_users(pattern: str, found: str, missed: str) -> None:
    read = pattern_of(pattern)
    assert read is not None
    assert read.finds(found)
    assert not read.finds(missed)


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|aa)+b", "(a+)+b", "(.*a){11}b", "(?:a?){500}a{400}b"])
def test_nothing_takes_for_ever(pattern: str) -> None:
    read = pattern_of(pattern)
    assert read is not None
    assert not read.finds("a" * 255)


@pytest.mark.parametrize(
    "pattern",
    [
        *("(?=a)", "(?!a)", "(?P<n>a)", "(?m)a|^b", r"(a)\1", r"a\z", r"\Qa|b\E", r"\x41", "\\", "\ud800"),
        *("a{1001}", "(a{100}){100}", "(.{30}){30}", "x" * 256, "a*+", "[[:word", "[[:letter:]]"),
    ],
)
def test_what_is_not_offered(pattern: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert pattern_of(pattern) is None
    assert capfd.readouterr() == ("", "")

"""Nova's patterns as conditions of the database."""

import re

import pytest

from muster.domain.server_listing import like


@pytest.mark.parametrize(
    ("pattern", "patterns"),
    [
        ("web", ("%web%",)),
        ("^web", ("web%",)),
        ("web$", ("%web",)),
        ("^web$", ("web",)),
        ("", ("%%",)),
        ("^", ("%",)),
        ("$", ("%",)),
        ("a.b", ("%a_b%",)),
        ("a.*b", ("%a%b%",)),
        ("100%", ("%100\\%%",)),
        ("a_b", ("%a\\_b%",)),
        (r"a\.b", ("%a.b%",)),
        (r"a\\b", ("%a\\\\b%",)),
        (r"cost\$", ("%cost$%",)),
        (r"^.*\-vm\-[0-9]+$", ("%-vm-_%",)),
        (r"\d\d", ("%__%",)),
        ("[]a]", ("%_%",)),
        ("[^]a]b", ("%_b%",)),
        ("ab?c", ("%a%c%",)),
        ("ab{2,3}c", ("%a%c%",)),
        ("a|^b", ("%a%", "b%")),
        ("^(a|b)c", ("%c%",)),
        ("a[|]b", ("%a_b%",)),
        ("(((", ("%%",)),
        ("*a", ("%*a%",)),
    ],
)
def test_patterns(pattern: str, patterns: tuple[str, ...]) -> None:
    assert like(pattern) == patterns


@pytest.mark.parametrize("pattern", [r"^w.*\d$", "eb-[12]", "(web|db)-1", "^web-1$|^db", r"\w+\-1", "b.1", "x*", "1|2"])
def test_what_the_regular_expression_finds_is_found(pattern: str) -> None:
    for name in ("web-1", "web-2", "db-1", "db_1", "a%b", "", "1"):
        found = any(_like(text).fullmatch(name) for text in like(pattern))
        assert found or not re.search(pattern, name), (pattern, name)


def _like(text: str) -> re.Pattern[str]:
    parts = re.findall(r"\\.|.", text, re.DOTALL)
    return re.compile("".join({"%": ".*", "_": "."}.get(part) or re.escape(part[-1]) for part in parts), re.DOTALL)

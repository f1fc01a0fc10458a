"""Nova's patterns as conditions of the database."""

import pytest

from muster.domain.server_listing import ServerQuery, is_offered, judge, like, looks_at_addresses


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
        (r"^.*\-vm\-[0-9]+$", ("%-vm-_%", r"%^.*\\-vm\\-[0-9]+$%")),
        (r"\d\d", ("%__%", r"%\\d\\d%")),
        ("[]a]", ("%_%", "%[]a]%")),
        ("[^]a]b", ("%_b%", "%[^]a]b%")),
        (r"[\]a]b", ("%_b%", r"%[\\]a]b%")),
        ("ab?c", ("%a%c%", "%ab?c%")),
        ("ab{2,3}c", ("%a%c%", "%ab{2,3}c%")),
        ("a|^b", ("%a%", "b%")),
        ("^(a|b)c", ("%c%", "%^(a|b)c%")),
        ("a[|]b", ("%a_b%", "%a[|]b%")),
        ("web (1_)", ("%web %%", r"%web (1\_)%")),
        ("c++", ("%c++%",)),
        ("a$b", ("%ab%", "%a$b%")),
        (r"^\bweb\b$", ("web", r"%^\\bweb\\b$%")),
        ("^[[:alpha:]]b", ("_b%", "%^[[:alpha:]]b%")),
        ("^[a[:^digit:]-]b$", ("_b", "%^[a[:^digit:]-]b$%")),
        ("^[A-[:alpha:]]$", ("_]", "%^[A-[:alpha:]]$%")),
        ("^{}$", ("{}", "%^{}$%")),
        ("^*a$", ("%a", "%^*a$%")),
        ("(?:a|b)+c", ("%%%c%", "%(?:a|b)+c%")),
        ("(((", ("%(((%",)),
        ("*a", ("%*a%",)),
    ],
)
def test_patterns(pattern: str, patterns: tuple[str, ...]) -> None:
    assert like(pattern) == patterns


@pytest.mark.parametrize("pattern", ["web", "^web$|^db$", "a.b", "a.*b.+", r"a\.b", "", "^", "$"])
def test_patterns_that_the_database_judges(pattern: str) -> None:
    assert is_offered(pattern)
    assert judge(ServerQuery(patterns={"name": pattern}, ip=pattern, ip6=pattern)) is None


@pytest.mark.parametrize(
    "pattern",
    [
        *("[ab]", r"\d", "(a)", "a+", "a*", "a?", "a{2}", ".?", ".*?", "[.*]", "(.*)", r"\\.*a+"),
        *(r"\bweb", "[[:digit:]]", "a$b", "a^b", "^^a"),
    ],
)
def test_patterns_that_the_database_does_not_judge(pattern: str) -> None:
    assert is_offered(pattern)
    assert judge(ServerQuery(patterns={"name": pattern})) is not None
    assert judge(ServerQuery(ip=pattern)) is not None
    assert looks_at_addresses(ServerQuery(ip=pattern))
    assert looks_at_addresses(ServerQuery(ip6=pattern))
    assert not looks_at_addresses(ServerQuery(patterns={"name": pattern}))


@pytest.mark.parametrize("pattern", ["(((", "*a", "g++", "[z-a]"])
def test_what_is_no_pattern_in_earnest_is_a_text(pattern: str) -> None:
    assert is_offered(pattern)
    assert judge(ServerQuery(patterns={"name": pattern})) is None


@pytest.mark.parametrize("pattern", [r"\Aa", "(?!a)b", r"(a)\1", "a{1001}", "(?i)a"])
def test_patterns_that_are_not_offered(pattern: str) -> None:
    assert not is_offered(pattern)


@pytest.mark.parametrize("pattern", [f"^({'|'.join(f'web-{number}' for number in range(50))})$", "[" * 60_000])
def test_long_patterns_are_refused_where_they_would_be_texts(pattern: str) -> None:
    assert not is_offered(pattern)


def test_long_alternatives_are_offered() -> None:
    assert is_offered("|".join(f"^web-{number}$" for number in range(50)))

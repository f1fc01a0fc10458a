"""What a caller who may not do something is told that he lacks."""

import pytest

from muster.domain.context import Context
from muster.domain.policies import Rule, allows, lack

NOBODY = Context(user_id="u")
MEMBER = Context(user_id="u", project_id="p", roles=frozenset({"member"}))
READER = Context(user_id="u", project_id="p", roles=frozenset({"reader"}))


@pytest.mark.parametrize(
    ("rule", "context", "words"),
    [
        (Rule.ADMIN, MEMBER, "it needs the role admin"),
        (Rule.ADMIN, NOBODY, "it needs the role admin"),
        (Rule.SYSTEM_READER, READER, "it needs the role admin, or reader of the whole system"),
        (Rule.PROJECT_MEMBER, READER, "it needs the role member in a project"),
        (Rule.PROJECT_MEMBER, NOBODY, "the token is not scoped to a project"),
        (Rule.PROJECT_READER, NOBODY, "the token is not scoped to a project"),
    ],
)
def test_who_is_refused_is_told_what_is_lacking(rule: Rule, context: Context, words: str) -> None:
    assert not allows(rule, context)
    assert lack(rule, context) == words


def test_there_are_words_for_each_rule_that_refuses_anyone() -> None:
    for rule in set(Rule) - {Rule.PUBLIC, Rule.AUTHENTICATED}:
        assert lack(rule, MEMBER)

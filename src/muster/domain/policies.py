"""Who may do what: one table of rules, named as in the routes, each naming one of the few checks below.

A route asks for its rule before its handler runs; what depends on the object's owner is checked again by the service,
which answers NotFound for what the caller may not even know of. The checks are those of the 'secure RBAC' defaults
of OpenStack 2023.2: admin everywhere, member and reader within their project.
"""

from collections.abc import Callable, Mapping
from enum import Enum

from muster.base.errors import Forbidden
from muster.domain.context import Context


def _anyone(_context: Context) -> bool:
    return True


def _admin(context: Context) -> bool:
    return context.is_admin


def _project(context: Context) -> bool:
    return context.is_admin or (context.project_id is not None and bool(context.roles))


def _project_reader(context: Context) -> bool:
    return context.is_admin or (
        context.project_id is not None and bool(context.roles & {"reader", "member", "manager"})
    )


def _project_member(context: Context) -> bool:
    return context.is_admin or (context.project_id is not None and bool(context.roles & {"member", "manager"}))


def _system_reader(context: Context) -> bool:
    return context.is_admin or (context.system and "reader" in context.roles)


class Rule(Enum):
    """The checks that a route can name."""

    PUBLIC = "public"  # no token needed
    AUTHENTICATED = "authenticated"  # any valid token, scoped or not
    PROJECT = "project"  # any role in the token's project
    PROJECT_READER = "project_reader"  # reader, member or manager in the token's project
    PROJECT_MEMBER = "project_member"  # member or manager in the token's project
    SYSTEM_READER = "system_reader"  # admin, or reader of the whole system
    ADMIN = "admin"


CHECKS: Mapping[Rule, Callable[[Context], bool]] = {
    Rule.PUBLIC: _anyone,
    Rule.AUTHENTICATED: _anyone,
    Rule.PROJECT: _project,
    Rule.PROJECT_READER: _project_reader,
    Rule.PROJECT_MEMBER: _project_member,
    Rule.SYSTEM_READER: _system_reader,
    Rule.ADMIN: _admin,
}


def allows(rule: Rule, context: Context) -> bool:
    """Whether the caller passes the check."""
    return CHECKS[rule](context)


_NEEDS: Mapping[Rule, str] = {
    Rule.PROJECT: "a role in a project",
    Rule.PROJECT_READER: "the role reader or member in a project",
    Rule.PROJECT_MEMBER: "the role member in a project",
    Rule.SYSTEM_READER: "the role admin, or reader of the whole system",
    Rule.ADMIN: "the role admin",
}
_IN_PROJECT = frozenset({Rule.PROJECT, Rule.PROJECT_READER, Rule.PROJECT_MEMBER})


def lack(rule: Rule, context: Context) -> str:
    """What a caller who does not pass the check lacks, in words for people."""
    if rule in _IN_PROJECT and context.project_id is None:
        return "the token is not scoped to a project"
    return f"it needs {_NEEDS[rule]}"


def refused(rule: Rule, context: Context) -> Forbidden:
    """The error for a caller who does not pass the check."""
    message = f"You are not authorized to perform the requested action: {lack(rule, context)}."
    return Forbidden(message, code="http.policy")

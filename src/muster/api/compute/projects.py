"""Whose things a request is about, where it names no project."""

from muster.api.http.requests import Request
from muster.base.errors import Forbidden
from muster.domain.policies import Rule, lack


def own_project(request: Request) -> str:
    """The project that the token is scoped to. Raises Forbidden without one, as an administrator's of the system is."""
    if request.context.project_id is None:
        lacking = lack(Rule.PROJECT, request.context)
        raise Forbidden(f"You are not authorized to perform the requested action: {lacking}.", code="http.policy")
    return request.context.project_id

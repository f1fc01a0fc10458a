"""Whose things a request is about, where it names no project."""

from muster.api.http.requests import Request
from muster.domain.policies import Rule, refused


def own_project(request: Request) -> str:
    """The project that the token is scoped to. Raises Forbidden without one, as an administrator's of the system is."""
    if request.context.project_id is None:
        raise refused(Rule.PROJECT, request.context)
    return request.context.project_id

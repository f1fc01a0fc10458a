"""Revocations: a subject (a token, a user, a user's rights in a scope, ...) and a number that only grows.

A token is revoked when one of its subjects was revoked with a number higher than the token's epoch. Numbers take the
place of times: the database hands them out in the order of the commits, so that two events in one second, or on
machines whose clocks differ, are never mixed up.
"""

from msgspec import Struct

SYSTEM = "system"


class Revocation(Struct, frozen=True):
    """All tokens about `subject` with an epoch below `seq` are void. Needless once they have all expired."""

    seq: int
    subject: str
    expires_at_s: float


def of_token(audit_id: str) -> str:
    """One token."""
    return f"token/{audit_id}"


def of_user(user_id: str) -> str:
    """All tokens of a user: a new password, disabled, deleted, out of a group."""
    return f"user/{user_id}"


def of_project(project_id: str) -> str:
    """All tokens scoped to a project: disabled or deleted."""
    return f"project/{project_id}"


def of_domain(domain_id: str) -> str:
    """All tokens of a domain's users, and those scoped to it or to its projects: disabled or deleted."""
    return f"domain/{domain_id}"


def of_scope(user_id: str, target_id: str) -> str:
    """A user's tokens scoped to a project, a domain or the system: a role was taken away."""
    return f"scope/{user_id}/{target_id}"


def of_role(name: str) -> str:
    """All tokens that carry a role: deleted, renamed, or implying less than before."""
    return f"role/{name}"


def of_application_credential(credential_id: str) -> str:
    """All tokens made with an application credential."""
    return f"application_credential/{credential_id}"

"""Tokens: what one says, and which revocations concern it.

Invariant: everything that a request's Context needs is in the token, so that validating one reads nothing else.
"""

from msgspec import Struct

from muster.domain import revocations
from muster.domain.context import Context


class Token(Struct, frozen=True, kw_only=True, array_like=True):
    """The payload of a token. The order of the fields is the format on the wire; new ones go to the end.

    At most one of `project_id`, `domain_id` and `system` is set. `epoch` is the number of the newest revocation that
    was in the database when the token's rights were read: only revocations with a higher number concern the token.
    """

    user_id: str
    user_name: str
    user_domain_id: str
    methods: tuple[str, ...]
    audit_ids: tuple[str, ...]  # its own, and that of the first token of its chain if it is not the first
    issued_at_s: float
    expires_at_s: float
    epoch: int
    roles: tuple[str, ...] = ()  # names
    project_id: str | None = None
    project_name: str = ""
    project_domain_id: str = ""
    domain_id: str | None = None
    system: bool = False
    application_credential_id: str | None = None
    # Made with an application credential that may not be used to make or delete application credentials.
    restricted: bool = False


def context_of(token: Token) -> Context:
    """The caller that a token stands for."""
    return Context(
        user_id=token.user_id,
        user_name=token.user_name,
        user_domain_id=token.user_domain_id,
        project_id=token.project_id,
        project_name=token.project_name,
        project_domain_id=token.project_domain_id or "default",
        domain_id=token.domain_id,
        system=token.system,
        roles=frozenset(token.roles),
        expires_at_s=token.expires_at_s,
        audit_ids=token.audit_ids,
    )


def subjects_of(token: Token) -> tuple[str, ...]:
    """The subjects whose revocation revokes the token."""
    subjects = [
        revocations.of_token(token.audit_ids[0]),
        revocations.of_user(token.user_id),
        revocations.of_domain(token.user_domain_id),
    ]
    if token.project_id is not None:
        subjects += [
            revocations.of_project(token.project_id),
            revocations.of_domain(token.project_domain_id),
            revocations.of_scope(token.user_id, token.project_id),
        ]
    if token.domain_id is not None:
        subjects += [
            revocations.of_domain(token.domain_id),
            revocations.of_scope(token.user_id, token.domain_id),
        ]
    if token.system:
        subjects.append(revocations.of_scope(token.user_id, revocations.SYSTEM))
    if token.application_credential_id is not None:
        subjects.append(revocations.of_application_credential(token.application_credential_id))
    subjects += [revocations.of_role(name) for name in token.roles]
    return tuple(dict.fromkeys(subjects))

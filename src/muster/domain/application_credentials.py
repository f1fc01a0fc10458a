"""Application credentials: a user's rights in one project, or fewer, for a program."""

from collections.abc import Collection

from msgspec import Struct

# The attributes by which lists of them are filtered.
CREDENTIAL_FILTERS = ("id", "name")


class ApplicationCredential(Struct, frozen=True, kw_only=True):
    """An application credential without its secret. `role_ids` are those its tokens get, never more."""

    id: str
    name: str
    user_id: str
    project_id: str
    role_ids: tuple[str, ...]
    description: str | None = None
    expires_at_s: float | None = None
    unrestricted: bool = False


class CredentialLogin(Struct, frozen=True):
    """An application credential and the hash to check a secret against."""

    credential: ApplicationCredential
    secret_hash: str

    def __repr__(self) -> str:
        return f"CredentialLogin({self.credential.id})"


def is_usable(credential: ApplicationCredential, held_role_ids: Collection[str], now: float) -> bool:
    """Whether tokens may be made: it has not expired, and the user still holds each of its roles."""
    expired = credential.expires_at_s is not None and credential.expires_at_s <= now
    return not expired and set(credential.role_ids) <= set(held_role_ids)

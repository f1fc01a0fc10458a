"""Who asks: the result of validating a token, passed to every service call."""

from msgspec import Struct


class Context(Struct, frozen=True, kw_only=True):
    """The caller of one request.

    At most one of `project_id`, `domain_id` and `system` is set: the scope of the token. An unscoped token has none.
    """

    user_id: str
    user_name: str = ""
    user_domain_id: str = "default"
    project_id: str | None = None
    project_name: str = ""
    project_domain_id: str = "default"
    domain_id: str | None = None
    system: bool = False
    roles: frozenset[str] = frozenset()
    expires_at_s: float = 0.0
    audit_ids: tuple[str, ...] = ()

    @property
    def is_admin(self) -> bool:
        """Whether the caller may see and change what belongs to other projects."""
        return "admin" in self.roles

    def sees(self, project_id: str) -> bool:
        """Whether what belongs to `project_id` is visible to the caller."""
        return self.is_admin or (self.project_id is not None and self.project_id == project_id)

"""Server groups: servers that shall share a host, or shall not."""

from msgspec import Struct

HARD_POLICIES = ("affinity", "anti-affinity")
POLICIES = (*HARD_POLICIES, "soft-affinity", "soft-anti-affinity")


class ServerGroup(Struct, frozen=True, kw_only=True):
    """A group; `max_per_host` is the only rule there is, of anti-affinity alone. `members` are servers' ids."""

    id: str
    project_id: str
    user_id: str
    name: str
    policy: str
    created_at: float
    max_per_host: int | None = None
    members: tuple[str, ...] = ()

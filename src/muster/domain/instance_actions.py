"""One request to one server, as a record of it is kept, and what is asked of such records."""

from msgspec import Struct


class InstanceAction(Struct, frozen=True, kw_only=True):
    """One request to one server."""

    server_id: str
    action: str
    request_id: str
    user_id: str
    project_id: str
    started_at: float
    updated_at: float
    finished_at: float | None = None
    message: str | None = None


class ActionQuery(Struct, frozen=True, kw_only=True):
    """Which actions of a server are asked for; `marker` and `request_id` are ids of requests."""

    request_id: str | None = None
    changes_since: float | None = None
    changes_before: float | None = None
    marker: str | None = None
    limit: int | None = None

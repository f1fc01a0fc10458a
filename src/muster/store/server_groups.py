"""Server groups. `generation` is raised by each placement of a member, so that two placers cannot both be the first."""

from sqlalchemy import Table

from muster.store.columns import counter, document, identity_column, moment, reference, text
from muster.store.engine import metadata

server_groups = Table(
    "server_groups",
    metadata,
    identity_column(),
    reference("project_id", nullable=False, index=True),
    reference("user_id", nullable=False),
    text("name"),
    text("policy"),  # affinity, anti-affinity, soft-affinity, soft-anti-affinity
    document("rules"),  # {"max_server_per_host": n}
    counter("generation"),
    moment("created_at"),
)

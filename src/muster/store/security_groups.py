"""Security groups and their rules."""

from sqlalchemy import Column, ForeignKey, Index, String, Table, UniqueConstraint
from sqlalchemy import text as sql

from muster.store.columns import counter, flag, identity_column, integer, moment, reference, text
from muster.store.engine import metadata

security_groups = Table(
    "security_groups",
    metadata,
    identity_column(),
    reference("project_id", nullable=False, index=True),
    text("name", default=""),
    text("description", default=""),
    flag("is_default"),
    flag("stateful", default=True),
    counter("revision"),  # raised by each change of the group, its rules or its members
    moment("created_at"),
    moment("updated_at"),
    # One default group per project, also when two requests make it at the same time.
    Index(
        "uq_security_groups_default",
        "project_id",
        unique=True,
        sqlite_where=sql("is_default"),
        postgresql_where=sql("is_default"),
    ),
)

security_group_rules = Table(
    "security_group_rules",
    metadata,
    identity_column(),
    reference("project_id", nullable=False, index=True),
    reference("security_group_id", ForeignKey("security_groups.id", ondelete="CASCADE"), nullable=False),
    text("description", default=""),
    text("direction"),
    text("ethertype"),
    text("protocol", nullable=True),
    integer("port_range_min", nullable=True),
    integer("port_range_max", nullable=True),
    text("remote_ip_prefix", nullable=True),
    reference("remote_group_id", ForeignKey("security_groups.id"), nullable=True, index=True),
    Column("fingerprint", String(64), nullable=False),  # of all that makes two rules the same
    counter("revision"),
    moment("created_at"),
    moment("updated_at"),
    UniqueConstraint("security_group_id", "fingerprint"),
)

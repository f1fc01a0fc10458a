"""What was asked of servers, by whom, and how it ended."""

from sqlalchemy import BigInteger, Column, Integer, Table

from muster.store.columns import moment, reference, text
from muster.store.engine import metadata

instance_actions = Table(
    "instance_actions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    reference("server_id", nullable=False, index=True),
    text("action"),
    text("request_id"),
    reference("user_id", nullable=False),
    reference("project_id", nullable=False),
    text("message", nullable=True),
    moment("started_at"),
    moment("updated_at"),
    moment("finished_at", nullable=True),
)

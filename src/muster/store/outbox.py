"""The outbox: which hosts must be told of which changes, written in the transaction that makes the change.

`seq` is the host's `desired_seq` that the change raised it to.
"""

from sqlalchemy import BigInteger, Column, Integer, Table

from muster.store.columns import moment, reference
from muster.store.engine import metadata

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    reference("host_id", nullable=False),
    Column("seq", BigInteger, nullable=False),
    reference("server_id", nullable=True),
    reference("network_id", nullable=True),
    reference("security_group_id", nullable=True),
    moment("created_at"),
    sqlite_autoincrement=True,
)

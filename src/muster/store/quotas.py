"""Quotas: limits that differ from the default, and what is in use, counted as it changes.

`resource` is the name that its API uses (`instances`, `cores`, `ram`; `network`, `port`, ...). A limit of -1 is none.
"""

from sqlalchemy import BigInteger, Column, String, Table

from muster.store.columns import reference
from muster.store.engine import metadata

quotas = Table(
    "quotas",
    metadata,
    reference("project_id", primary_key=True),
    Column("resource", String(64), primary_key=True),
    Column("hard_limit", BigInteger, nullable=False),
)

usages = Table(
    "usages",
    metadata,
    reference("project_id", primary_key=True),
    Column("resource", String(64), primary_key=True),
    Column("in_use", BigInteger, nullable=False, default=0),
)

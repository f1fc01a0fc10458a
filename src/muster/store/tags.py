"""Tags of network resources (networks, subnets, ports, security groups)."""

from sqlalchemy import Column, String, Table

from muster.store.columns import reference
from muster.store.engine import metadata

tags = Table(
    "tags",
    metadata,
    reference("resource_id", primary_key=True),
    Column("tag", String(255), primary_key=True, index=True),
)

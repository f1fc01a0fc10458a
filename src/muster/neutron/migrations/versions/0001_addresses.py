"""Subnets, their free ranges, and addresses that were given out at least once."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001_addresses"
down_revision = None


def _key(length: int) -> sa.String:
    exact = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return sa.String(length).with_variant(exact, "mysql").with_variant(exact, "mariadb")


def upgrade() -> None:
    op.create_table(
        "muster_ipam_subnets",
        sa.Column("subnet_id", _key(36), primary_key=True),
        sa.Column("cidr", sa.String(64), nullable=False),
        sa.Column("pools", sa.Text, nullable=False),
    )
    op.create_table(
        "muster_ipam_ranges",
        sa.Column("subnet_id", _key(36), primary_key=True),
        sa.Column("first", _key(32), primary_key=True),
        sa.Column("last", _key(32), nullable=False),
    )
    op.create_table(
        "muster_ipam_addresses",
        sa.Column("subnet_id", _key(36), primary_key=True),
        sa.Column("ip_address", _key(64), primary_key=True),
        sa.Column("state", sa.SmallInteger, nullable=False),
        sa.Column("pooled", sa.Boolean, nullable=False),
        sa.Column("since", sa.Float(53), nullable=False),
        sa.Column("claim", _key(32), nullable=True),
        sa.Column("port_id", _key(36), nullable=True),
    )
    columns = ["subnet_id", "state", "since"]
    op.create_index("ix_muster_ipam_addresses_state", "muster_ipam_addresses", columns)

"""Addresses given out, and the ranges that are still free.

Every address of a subnet's pools is in exactly one of three places: in a free range (never given out since the pools
were set), in `addresses` with a port (given out), or in `addresses` without one (released; rests until `free_at`).
The primary key (subnet, address) is the last word on who has an address, whatever a lock said.

An address is kept as 32 hexadecimal digits of its number, so that IPv4 and IPv6 sort and compare alike everywhere.
"""

from sqlalchemy import Column, ForeignKey, Index, String, Table
from sqlalchemy import text as sql

from muster.store.columns import moment, reference
from muster.store.engine import metadata

free_ranges = Table(
    "free_ranges",
    metadata,
    reference("subnet_id", ForeignKey("subnets.id", ondelete="CASCADE"), primary_key=True),
    Column("first", String(32), primary_key=True),
    Column("last", String(32), nullable=False),
)

addresses = Table(
    "addresses",
    metadata,
    reference("subnet_id", ForeignKey("subnets.id"), primary_key=True),
    Column("address", String(32), primary_key=True),
    Column("ip_address", String(45), nullable=False, index=True),
    reference("network_id", nullable=False),
    reference("port_id", ForeignKey("ports.id"), nullable=True),
    moment("free_at", nullable=True),
    Index("ix_addresses_port_id", "port_id"),
    # The queue of released addresses, the one that has rested longest first.
    Index(
        "ix_addresses_resting",
        "subnet_id",
        "free_at",
        sqlite_where=sql("port_id IS NULL"),
        postgresql_where=sql("port_id IS NULL"),
    ),
)

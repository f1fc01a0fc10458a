"""The driver's three tables, in Neutron's database.

A row of `muster_ipam_subnets` is what an allocation locks. Each address of a subnet's pools is either in a free range
or has a row in `muster_ipam_addresses`, which says where it is on its way:

    free range --claim--> CLAIMED --confirm--> HELD --release--> RESTING --claim--> CLAIMED ...
                          |    '-----confirm--> PROMISED --sweep--> HELD or RESTING
                          '------give back--> RESTING

A claim is written by a short transaction of its own; confirm and release are part of the transaction that writes the
port. Where Neutron writes the port later (several ports of one request), what is confirmed is only promised, and so is
what the ports of a subnet have when it is taken over, one of which may just be going: the sweep looks later whether the
port is there. No foreign keys: a key to Neutron's tables would make their rows wait for ours.
"""

from enum import IntEnum

from sqlalchemy import Boolean, Column, Float, Index, MetaData, SmallInteger, String, Table, Text
from sqlalchemy.dialects import mysql

metadata = MetaData()


class State(IntEnum):
    """Where an address is that is in no free range."""

    RESTING = 0  # nobody's; reused after its rest
    CLAIMED = 1  # decided for a port whose transaction is not committed yet
    HELD = 2  # a port has it
    PROMISED = 3  # a port is to have it by a later transaction of its request, or has had it when the row was made


def _key(length: int) -> String:
    """Text that is compared byte by byte, also in MySQL."""
    exact = mysql.VARCHAR(length, charset="ascii", collation="ascii_bin")
    return String(length).with_variant(exact, "mysql").with_variant(exact, "mariadb")


subnets = Table(
    "muster_ipam_subnets",
    metadata,
    Column("subnet_id", _key(36), primary_key=True),
    Column("cidr", String(64), nullable=False),
    Column("pools", Text, nullable=False),  # "first-last first-last ...", as addresses
)

ranges = Table(
    "muster_ipam_ranges",
    metadata,
    Column("subnet_id", _key(36), primary_key=True),
    Column("first", _key(32), primary_key=True),  # 32 hexadecimal digits, which sort as the numbers do
    Column("last", _key(32), nullable=False),
)

addresses = Table(
    "muster_ipam_addresses",
    metadata,
    Column("subnet_id", _key(36), primary_key=True),
    Column("ip_address", _key(64), primary_key=True),
    Column("state", SmallInteger, nullable=False),
    Column("pooled", Boolean, nullable=False),  # false: outside the pools, forgotten when nobody has it
    Column("since", Float(53), nullable=False),  # when it came to this state, in seconds since 1970
    Column("claim", _key(32), nullable=True),  # which batch decided it
    Column("port_id", _key(36), nullable=True),
    Index("ix_muster_ipam_addresses_state", "subnet_id", "state", "since"),
)

"""A database as the driver finds it in Neutron: its own tables, and those of Neutron that it reads."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Column, Connection, MetaData, String, Table, create_engine, insert

from muster.neutron.tables import metadata

SUBNET = "subnet-1"

neutron = MetaData()
Table("subnets", neutron, Column("id", String, primary_key=True), Column("cidr", String))
Table("ipallocationpools", neutron, Column("subnet_id", String), Column("first_ip", String), Column("last_ip", String))
Table(
    "ipallocations",
    neutron,
    Column("subnet_id", String),
    Column("ip_address", String, primary_key=True),
    Column("port_id", String),
)

Table("ipamsubnets", neutron, Column("id", String, primary_key=True), Column("neutron_subnet_id", String))
Table(
    "ipamallocationpools",
    neutron,
    Column("id", String, primary_key=True),
    Column("ipam_subnet_id", String),
    Column("first_ip", String),
    Column("last_ip", String),
)
Table(
    "ipamallocations",
    neutron,
    Column("ipam_subnet_id", String, primary_key=True),
    Column("ip_address", String, primary_key=True),
    Column("status", String),
)


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://", connect_args={"check_same_thread": False})
    metadata.create_all(engine)
    neutron.create_all(engine)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


class Neutron:
    """What Neutron's own tables say."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def has_subnet(self, cidr: str, first: str, last: str, subnet_id: str = SUBNET) -> None:
        self._add("subnets", id=subnet_id, cidr=cidr)
        self.has_pool(first, last, subnet_id)

    def has_pool(self, first: str, last: str, subnet_id: str = SUBNET) -> None:
        self._add("ipallocationpools", subnet_id=subnet_id, first_ip=first, last_ip=last)

    def has_port(self, ip_address: str, port_id: str = "port", subnet_id: str = SUBNET) -> None:
        self._add("ipallocations", subnet_id=subnet_id, ip_address=ip_address, port_id=port_id)

    def _add(self, table: str, **values: str) -> None:
        self._connection.execute(insert(neutron.tables[table]).values(**values))


@pytest.fixture
def tables(connection: Connection) -> Neutron:
    """Neutron's tables."""
    return Neutron(connection)

"""A pytest plugin, loaded within Neutron's own environment: its packaged tests run with Muster's driver.

`MUSTER_TEST_DATABASE` is the URL of an empty database of a real server. Neutron's test base makes its tables there
instead of in SQLite in memory, and each test leaves them empty.
"""

import os
from types import SimpleNamespace

import pytest
from neutron.conf import common as neutron_conf
from neutron_lib import fixture
from neutron_lib.db import model_base
from oslo_db.sqlalchemy import engines

from muster.neutron import driver
from muster.neutron.tables import metadata

URL = os.environ["MUSTER_TEST_DATABASE"]

if os.environ.get("MUSTER_TEST_DRIVER", "muster") == "muster":
    for option in neutron_conf.core_opts:
        if option.name == "ipam_driver":
            option.default = "muster"


def _init_resources(cls):
    if not cls._GLOBAL_RESOURCES:
        cls._GLOBAL_RESOURCES = True
        cls.engine = engines.create_engine(URL)
        model_base.BASEV2.metadata.create_all(cls.engine)
        metadata.create_all(cls.engine)


def _delete_from_schema(self, engine):
    tables = [*reversed(model_base.BASEV2.metadata.sorted_tables), *metadata.sorted_tables]
    with engine.begin() as connection:
        for table in tables:
            connection.execute(table.delete())


fixture.StaticSqlFixture._init_resources = classmethod(_init_resources)
fixture.SqlFixture._delete_from_schema = _delete_from_schema


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.module.__name__.endswith("neutrondb_ipam.test_driver"):
            item.module.driver = SimpleNamespace(NeutronDbPool=driver.MusterPool, NeutronDbSubnet=driver.MusterSubnet)

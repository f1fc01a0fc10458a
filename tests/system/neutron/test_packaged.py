"""Neutron's own tests of IPAM, as packaged with it, run with Muster's driver on real databases.

`MUSTER_NEUTRON_FULL=1` adds the 400 of `test_ipam_pluggable_backend` (all of ports and subnets): another four minutes
or more on each database.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
from tests.system.neutron.conftest import Database

from benchmarks.neutron_cloud import VENV

DRIVER = "ipam/drivers/neutrondb_ipam/test_driver.py"
BACKEND = "db/test_ipam_pluggable_backend.py"
# They depend on the order in which rows come without ORDER BY, which on MariaDB is that of random ids: the first fails
# with Neutron's own driver too, the second makes two rows for one subnet and may change the one that it does not read.
NOT_OURS = (
    "not test_delete_ports_by_device_id_second_call_failure and not (test_update_subnet_pools and not with_blank_pools)"
)


def packaged() -> Path:
    [found] = VENV.glob("lib/python3*/site-packages/neutron/tests/unit")
    return found


def run(database: Database, *what: str) -> int:
    """Run packaged tests; how many passed. All must."""
    here = Path(__file__).parent
    environment = {
        **os.environ,
        "MUSTER_TEST_DATABASE": database.new_database(),
        "PYTHONPATH": str(here),
    }
    command = [
        str(VENV / "bin/python"),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "muster_plugin",
        "--noconftest",
    ]
    command += [
        "-c",
        str(here / "packaged.ini"),
        "-W",
        "ignore",
        "--tb=short",
        "--rootdir",
        str(packaged()),
        "-k",
        NOT_OURS,
        *what,
    ]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=VENV)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    [passed] = re.findall(r"(\d+) passed", done.stdout)
    return int(passed)


@pytest.mark.timeout(900)
def test_the_drivers_tests(database: Database) -> None:
    assert run(database, str(packaged() / DRIVER)) >= 30


@pytest.mark.timeout(900)
def test_within_neutrons_transactions(database: Database) -> None:
    assert run(database, str(Path(__file__).with_name("inside_cases.py"))) >= 10


@pytest.mark.timeout(900)
def test_the_backends_tests(mariadb: Database) -> None:
    assert run(mariadb, f"{packaged() / BACKEND}::TestDbBasePluginIpam") >= 20


@pytest.mark.timeout(3600)
@pytest.mark.skipif("MUSTER_NEUTRON_FULL" not in os.environ, reason="minutes; MUSTER_NEUTRON_FULL=1 runs it")
def test_all_of_ports_and_subnets(database: Database) -> None:
    assert run(database, str(packaged() / BACKEND)) >= 400

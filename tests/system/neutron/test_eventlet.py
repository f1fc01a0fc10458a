"""The driver in Neutron 21, as in Debian 12: `neutron-server`, which serves requests in green threads of eventlet."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.engines.fixtures import folder
from tests.system.neutron.conftest import Database

from benchmarks.neutron_cloud import PROJECT_ID, VENV_21, EventletNeutron

pytestmark = pytest.mark.timeout(1800)
needs_neutron_21 = pytest.mark.skipif(
    not VENV_21.exists(), reason="there is no Neutron 21: run scripts/neutron-venv 21"
)

COUNT = 40
REQUEST_S = 1500.0
# Neutron 21 locks the subnet's row for each port until its transaction ends: on a busy machine for longer altogether
# than MySQL waits for a lock.
PATIENT = "?init_command=SET%20SESSION%20innodb_lock_wait_timeout=1200"
POOL = [{"start": "10.64.0.10", "end": f"10.64.0.{10 + COUNT - 1}"}]


@needs_neutron_21
def test_exactly_as_many_as_there_are_at_once_and_some_in_bulk(mariadb: Database) -> None:
    with folder("neutron") as path:
        cloud = EventletNeutron(path, mariadb.new_database() + PATIENT, "muster", workers=2)
        try:
            cloud.migrate()
            cloud.start()
            network_id, _ = cloud.new_subnet("10.64.0.0/24", allocation_pools=POOL)
            port = {"network_id": network_id, "project_id": PROJECT_ID}
            cloud.clear_log()
            bodies = [{"port": port}] * (COUNT - 10) + [{"ports": [port] * 5}] * 2
            with ThreadPoolExecutor(len(bodies)) as pool:
                answers = list(pool.map(lambda body: cloud.call("POST", "/ports", body, REQUEST_S), bodies))
            assert {status for status, _ in answers} == {201}, [one for one in answers if one[0] != 201][:1]
            ports = [port for _, body in answers for port in body.get("ports", [body.get("port")])]
            assert len({port["fixed_ips"][0]["ip_address"] for port in ports}) == COUNT
            assert [line for line in cloud.retries() if "ipam" in line.lower() or "ipalloc" in line.lower()] == []
            assert cloud.call("POST", "/ports", {"port": port}, REQUEST_S)[0] == 409
        finally:
            cloud.stop()


@needs_neutron_21
def test_what_a_request_that_failed_midway_had_goes_back(mariadb: Database) -> None:
    """Neutron 21 does not release it: three addresses were lost for each such request."""
    age_s = 10
    with folder("neutron") as path:
        ipam = {"claim_age": age_s, "promise_age": age_s, "rest": 0}
        cloud = EventletNeutron(path, mariadb.new_database(), "muster", ipam=ipam, workers=1)
        try:
            cloud.migrate()
            cloud.start()
            pool = [{"start": "10.64.0.10", "end": "10.64.0.12"}]
            network_id, _ = cloud.new_subnet("10.64.0.0/24", allocation_pools=pool)
            port = {"network_id": network_id, "project_id": PROJECT_ID}
            assert cloud.call("POST", "/ports", {"ports": [port] * 5}, REQUEST_S)[0] == 409
            time.sleep(age_s + 1)
            assert [cloud.call("POST", "/ports", {"port": port}, REQUEST_S)[0] for _ in range(3)] == [201] * 3
            cloud.command("muster-ipam", "check")
        finally:
            cloud.stop()

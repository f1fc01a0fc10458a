"""The driver in a real Neutron: API workers under uWSGI, over MariaDB and PostgreSQL."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.engines.etcd import Etcd
from tests.engines.fixtures import folder
from tests.system.neutron.conftest import Database

from benchmarks.neutron_cloud import PROJECT_ID, VENV, Neutron

pytestmark = pytest.mark.timeout(1800)

LEASE_S = 8
CLAIM_AGE_S = 20
PROMISE_AGE_S = 40
WAIT_S = 600.0
AGES = {"lease": LEASE_S, "claim_age": CLAIM_AGE_S, "promise_age": PROMISE_AGE_S, "rest": 0}


@contextlib.contextmanager
def running(database: Database, **ipam: Any) -> Iterator[Neutron]:
    with folder("neutron") as path:
        cloud = Neutron(path, database.new_database(), "muster", ipam={**AGES, **ipam})
        cloud.migrate()
        cloud.start()
        try:
            yield cloud
        finally:
            cloud.stop()


@pytest.fixture(scope="module")
def neutron(database: Database) -> Iterator[Neutron]:
    with running(database) as cloud:
        yield cloud


def test_where_the_tables_are_not_there_the_command_says_how_to_make_them(database: Database) -> None:
    with folder("neutron") as path:
        said = Neutron(path, database.new_database(), "muster", ipam=AGES).command("muster-ipam", "status", check=False)
    assert said.returncode == 2
    assert "run neutron-db-manage upgrade heads" in said.stderr
    assert "Traceback" not in said.stderr


def make_port(cloud: Neutron, network_id: str, **fields: Any) -> tuple[int, Any]:
    return cloud.call("POST", "/ports", {"port": {"network_id": network_id, "project_id": PROJECT_ID, **fields}})


def address(answer: tuple[int, Any]) -> str:
    status, body = answer
    assert status == 201, body
    return str(body["port"]["fixed_ips"][0]["ip_address"])


def make_many(cloud: Neutron, network_id: str, count: int) -> list[tuple[int, Any]]:
    with ThreadPoolExecutor(32) as pool:
        return list(pool.map(lambda _: make_port(cloud, network_id), range(count)))


def test_exactly_as_many_as_there_are_at_once_and_again(neutron: Neutron) -> None:
    network_id, subnet_id = neutron.new_subnet("10.1.0.0/27")
    neutron.clear_log()
    for _ in range(2):
        made = make_many(neutron, network_id, 29)
        assert len({address(one) for one in made}) == 29
        status, body = make_port(neutron, network_id)
        assert status == 409
        assert "IpAddressGenerationFailure" in body["body"]
        paths = [f"/ports/{port['port']['id']}" for _, port in made]
        with ThreadPoolExecutor(8) as pool:
            assert {answer[0] for answer in pool.map(lambda path: neutron.call("DELETE", path), paths)} == {204}
    assert [line for line in neutron.retries() if "ipam" in line.lower() or "ipalloc" in line.lower()] == []
    assert neutron.call("DELETE", f"/subnets/{subnet_id}")[0] == 204


def test_several_ports_in_one_request_get_their_addresses_in_one_batch(neutron: Neutron) -> None:
    network_id, _ = neutron.new_subnet("10.7.0.0/24")
    body = {"ports": [{"network_id": network_id, "project_id": PROJECT_ID}] * 10}
    neutron.clear_log()
    requests = 3 * neutron.workers
    answers = [neutron.call("POST", "/ports", body) for _ in range(requests)]
    assert {status for status, _ in answers} == {201}, answers[0]
    assert len({port["fixed_ips"][0]["ip_address"] for _, made in answers for port in made["ports"]}) == 10 * requests
    batches = neutron.log.read_text().count("in one batch")
    assert batches <= 10 * neutron.workers + 2 * neutron.workers  # a worker serves its first such request one by one
    neutron.command("muster-ipam", "check")


def test_by_name_by_mac_dual_stack_and_moved(neutron: Neutron) -> None:
    # With many addresses elsewhere and few here, MySQL would go by the index of states: it locked a gap in which the
    # moved port's own claim was to be written, and the request ended with 503.
    elsewhere = {"network_id": neutron.new_subnet("10.8.0.0/24")[0], "project_id": PROJECT_ID}
    assert neutron.call("POST", "/ports", {"ports": [elsewhere] * 60})[0] == 201
    network_id, v4 = neutron.new_subnet("10.2.0.0/24")
    slaac = {"network_id": network_id, "ip_version": 6, "cidr": "fd02::/64", "project_id": PROJECT_ID}
    slaac |= {"ipv6_address_mode": "slaac", "ipv6_ra_mode": "slaac"}
    assert neutron.call("POST", "/subnets", {"subnet": slaac})[0] == 201

    status, made = make_port(
        neutron, network_id, mac_address="fa:16:3e:00:00:01", fixed_ips=[{"ip_address": "10.2.0.77"}]
    )
    assert status == 201, made
    assert {one["ip_address"] for one in made["port"]["fixed_ips"]} == {"10.2.0.77", "fd02::f816:3eff:fe00:1"}
    assert make_port(neutron, network_id, fixed_ips=[{"ip_address": "10.2.0.77"}])[0] == 409
    assert make_port(neutron, network_id, fixed_ips=[{"ip_address": "10.9.0.1"}])[0] == 400

    port_id = made["port"]["id"]
    fixed = [{"subnet_id": v4, "ip_address": "10.2.0.78"}]
    status, moved = neutron.call("PUT", f"/ports/{port_id}", {"port": {"fixed_ips": fixed}})
    assert status == 200, moved
    assert "10.2.0.78" in {one["ip_address"] for one in moved["port"]["fixed_ips"]}
    assert make_port(neutron, network_id, fixed_ips=[{"ip_address": "10.2.0.77"}])[0] == 201


def test_pools_change_under_way(neutron: Neutron) -> None:
    pools = [{"start": "10.3.0.10", "end": "10.3.0.12"}]
    network_id, subnet_id = neutron.new_subnet("10.3.0.0/24", allocation_pools=pools)
    first = {address(one) for one in make_many(neutron, network_id, 3)}
    assert first == {"10.3.0.10", "10.3.0.11", "10.3.0.12"}
    pools = [{"start": "10.3.0.12", "end": "10.3.0.14"}]
    assert neutron.call("PUT", f"/subnets/{subnet_id}", {"subnet": {"allocation_pools": pools}})[0] == 200
    assert {address(one) for one in make_many(neutron, network_id, 2)} == {"10.3.0.13", "10.3.0.14"}
    assert make_port(neutron, network_id)[0] == 409


def test_the_command_takes_over_checks_and_leads_back(neutron: Neutron) -> None:
    network_id, _ = neutron.new_subnet("10.6.0.0/24")
    for _ in range(3):
        address(make_port(neutron, network_id))
    assert neutron.command("muster-ipam", "to-internal", "--dry-run", check=False).returncode == 1
    neutron.command("muster-ipam", "to-internal")
    neutron.command("muster-ipam", "adopt")
    neutron.command("muster-ipam", "check")
    status = json.loads(neutron.command("muster-ipam", "status", "--json").stdout)
    assert status["differ"] == 0
    assert [(one["ports"], one["held"]) for one in status["subnets"] if one["cidr"] == "10.6.0.0/24"] == [(3, 3)]


class Maker:
    """A process that makes a port and stops itself at a moment (port_maker.py)."""

    def __init__(self, cloud: Neutron, network_id: str, moment: str) -> None:
        script = Path(__file__).with_name("port_maker.py")
        command = [str(VENV / "bin/python"), "-W", "ignore", str(script), str(cloud.folder / "neutron.conf")]
        self.process = subprocess.Popen(
            [*command, network_id, moment], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.says("ready")
        if moment != "never":
            self.says("stopped")

    def says(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def result(self) -> str:
        """What it ends with: an address or an error."""
        output, _ = self.process.communicate(timeout=WAIT_S)
        return output.strip()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def stopped(cloud: Neutron, network_id: str, moment: str) -> Iterator[Maker]:
    maker = Maker(cloud, network_id, moment)
    try:
        yield maker
    finally:
        maker.end()


def small_subnet(cloud: Neutron) -> str:
    """A network with three addresses."""
    network_id, _ = cloud.new_subnet("10.4.0.0/24", allocation_pools=[{"start": "10.4.0.11", "end": "10.4.0.13"}])
    return network_id


ALL = {"10.4.0.11", "10.4.0.12", "10.4.0.13"}


@pytest.mark.parametrize("moment", ["deciding", "claimed", "confirmed"])
def test_killed_in_the_middle_its_address_comes_back(neutron: Neutron, moment: str) -> None:
    network_id = small_subnet(neutron)
    with stopped(neutron, network_id, moment) as maker:
        maker.signal(signal.SIGKILL)
        maker.process.wait()
    two = make_many(neutron, network_id, 2)
    time.sleep(CLAIM_AGE_S + 1)
    assert {address(one) for one in [*two, make_port(neutron, network_id)]} == ALL


def test_killed_in_a_request_for_several_ports_their_addresses_come_back(neutron: Neutron) -> None:
    network_id = small_subnet(neutron)
    with stopped(neutron, network_id, "promised") as maker:
        neutron.command("muster-ipam", "check")  # what is under way is no difference
        maker.signal(signal.SIGKILL)
        maker.process.wait()
    time.sleep(PROMISE_AGE_S + 1)
    assert {address(one) for one in make_many(neutron, network_id, 3)} == ALL
    neutron.command("muster-ipam", "check")


def test_stopped_while_deciding_the_others_go_on(neutron: Neutron) -> None:
    network_id = small_subnet(neutron)
    with stopped(neutron, network_id, "deciding") as maker:
        began = time.monotonic()
        two = {address(one) for one in make_many(neutron, network_id, 2)}
        assert time.monotonic() - began < WAIT_S
        maker.signal(signal.SIGCONT)
        assert {*two, maker.result()} == ALL


def test_stopped_for_long_after_the_claim_others_get_it_and_nobody_twice(neutron: Neutron) -> None:
    network_id = small_subnet(neutron)
    with stopped(neutron, network_id, "claimed") as maker:
        time.sleep(CLAIM_AGE_S + 1)
        two = {address(one) for one in make_many(neutron, network_id, 2)}
        maker.signal(signal.SIGCONT)
        third = maker.result()
    assert {*two, third} == ALL


def test_stopped_with_its_port_half_made_nobody_else_gets_its_address(neutron: Neutron) -> None:
    network_id = small_subnet(neutron)
    with stopped(neutron, network_id, "confirmed") as maker:
        two = {address(one) for one in make_many(neutron, network_id, 2)}
        time.sleep(CLAIM_AGE_S + 1)
        assert make_port(neutron, network_id)[0] == 409
        maker.signal(signal.SIGCONT)
        assert {*two, maker.result()} == ALL


@pytest.mark.parametrize("policy", ["refuse", "allocate"])
def test_the_lock_service_goes_away_and_comes_back(mariadb: Database, policy: str) -> None:
    with folder("etcd") as path:
        etcd = Etcd(path)
        etcd.start()
        try:
            with running(mariadb, lock_url=f"etcd://{etcd.endpoints}", without_lock=policy) as cloud:
                network_id, _ = cloud.new_subnet("10.5.0.0/24")
                first = {address(one) for one in make_many(cloud, network_id, 20)}
                assert len(first) == 20
                etcd.members[0].kill()
                status, body = make_port(cloud, network_id)
                if policy == "refuse":
                    assert (status, body["headers"]["Retry-After"]) == (503, "5")
                    assert "No lock for an allocation in subnet" in cloud.log.read_text()
                else:
                    assert address((status, body)) not in first
                etcd.start_member(etcd.members[0])
                etcd.await_healthy()
                assert address(make_port(cloud, network_id)) not in first
                assert etcd.leases() == 0
        finally:
            etcd.close()

"""`muster serve` and `muster host` over PostgreSQL, etcd and RabbitMQ: two machines' worth of workers, and hosts."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tests.audit import http
from tests.conformance.conftest import postgres  # noqa: F401 - a fixture
from tests.engines.etcd import Etcd
from tests.engines.fixtures import etcd, rabbitmq  # noqa: F401 - fixtures
from tests.engines.postgres import Postgres
from tests.engines.rabbitmq import RabbitMq
from tests.openstack_command import openstack_command
from tests.system.cluster import Cluster, Command, cluster_of, log_in, until

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


@pytest.fixture
async def cluster(tmp_path: Path, postgres: Postgres, etcd: Etcd, rabbitmq: RabbitMq) -> AsyncIterator[Cluster]:  # noqa: F811
    async with cluster_of(tmp_path, postgres, etcd, rabbitmq) as made:
        yield made


async def test_two_machines_are_one_cloud(cluster: Cluster, tmp_path: Path) -> None:
    metrics = free_ports(3)
    first, second, hosts = await asyncio.gather(
        cluster.serve("a", metrics_port=metrics), cluster.serve("b"), cluster.host("hosts", 5, metrics_port=metrics + 2)
    )
    await asyncio.gather(first.ready(), second.ready(), hosts.ready())
    await health_and_metrics_are_told(first, metrics)
    await tokens_are_shared(cluster, first, second)

    def use() -> None:
        environment = {"OS_CLIENT_CONFIG_FILE": str(tmp_path / "a/state/clouds.yaml"), "OS_CLOUD": "muster"}
        with openstack_command(tmp_path / "home", environment) as openstack:
            openstack("server create --image guest --flavor m1.tiny --network default --wait vm1")
            other = {**environment, "OS_CLIENT_CONFIG_FILE": str(tmp_path / "b/state/clouds.yaml")}
            beyond = openstack.with_environment(other)
            assert [server["Name"] for server in beyond.json("server list")] == ["vm1"]
            beyond("server delete --wait vm1")
            assert openstack.json("server list") == []

    await asyncio.to_thread(use)
    first.send(signal.SIGTERM)
    assert await first.ended() == 0, first.said()


async def health_and_metrics_are_told(machine: Command, metrics: int) -> None:
    """Each of two workers has metrics of its own, and so have the hosts; none has them beside the APIs."""
    for path in ("/healthcheck", "/healthcheck/ready"):
        answer = await http.ask(machine.base_url, "GET", path)
        assert (answer.status, answer.body) == (200, {"status": "ok"})
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{machine.base_url}/metrics")).status_code == 404
        pages = [(await client.get(f"http://127.0.0.1:{metrics + index}/metrics")).text for index in range(3)]
    workers = [page for page in pages if "muster_singleton{" in page]
    assert len(workers) >= 1
    assert all("muster_requests_total" in page for page in pages)
    started = {line for page in pages for line in page.splitlines() if line.startswith("process_start_time_seconds")}
    assert len(started) == 3, "three processes"


async def tokens_are_shared(cluster: Cluster, first: Command, second: Command) -> None:
    """A token made at one machine is good at the other, and, revoked there, void at both."""
    token = await log_in(cluster, first, "a")

    async def status(machine: Command) -> set[int | None]:
        # Often enough for each of the machine's workers to have been asked, most likely.
        answers = [http.ask(machine.base_url, "GET", "/compute/v2.1/servers", token=token) for _ in range(8)]
        return {answer.status for answer in await asyncio.gather(*answers)}

    assert await status(first) == await status(second) == {200}
    auth = "/identity/v3/auth/tokens"
    gone = await http.ask(second.base_url, "DELETE", auth, token=token, headers={"X-Subject-Token": token})
    assert gone.status == 204

    async def is_void() -> bool:
        return await status(first) == await status(second) == {401}

    await until(is_void, "the token is void at both")


def free_ports(count: int) -> int:
    """The first of so many ports of loopback that are free now, side by side."""
    for first in range(20_000 + 7 * (os.getpid() % 1_000), 30_000, count):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in range(first, first + count):
                probe = stack.enter_context(socket.socket())
                probe.bind(("127.0.0.1", port))
            return first
    raise AssertionError("no ports are free")

"""`muster serve` and `muster host` over PostgreSQL, etcd and RabbitMQ: two machines' worth of workers, and hosts."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest
from tests.audit import http
from tests.conformance.conftest import postgres  # noqa: F401 - a fixture
from tests.engines.etcd import Etcd
from tests.engines.fixtures import etcd, rabbitmq  # noqa: F401 - fixtures
from tests.engines.postgres import Postgres
from tests.engines.rabbitmq import PASSWORD, RabbitMq
from tests.openstack_command import openstack_command
from tests.system.cluster import SECRET, Cluster, Command, cluster_of, log_in, until

from benchmarks.free_ports import free_ports
from muster.services.cluster_secret import ClusterSecret
from muster.services.image_tickets import ImageTickets

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


@pytest.fixture
async def cluster(tmp_path: Path, postgres: Postgres, etcd: Etcd, rabbitmq: RabbitMq) -> AsyncIterator[Cluster]:  # noqa: F811
    async with cluster_of(tmp_path, postgres, etcd, rabbitmq) as made:
        yield made


async def test_two_machines_are_one_cloud(cluster: Cluster, tmp_path: Path) -> None:
    metrics = free_ports(5)
    ports = metrics + 3, metrics + 4
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    first, second, hosts = await asyncio.gather(
        cluster.serve("a", metrics_port=metrics, port=ports[0], image_url=urls[0]),
        cluster.serve("b", port=ports[1], image_url=urls[1] + "/"),
        cluster.host("hosts", 5, metrics_port=metrics + 2),
    )
    await asyncio.gather(first.ready(), second.ready(), hosts.ready())
    await health_and_metrics_are_told(first, metrics)
    await tokens_are_shared(cluster, first, second)
    await images_are_fetched(cluster, first, second)
    await a_machine_with_the_url_of_another_is_not_ready(cluster, first, urls[0])

    def use() -> None:
        environment = {"OS_CLIENT_CONFIG_FILE": str(tmp_path / "a/state/clouds.yaml"), "OS_CLOUD": "muster"}
        with openstack_command(tmp_path / "home", environment) as openstack:
            openstack("server create --image guest --flavor m1.tiny --network default --wait vm1")
            other = {**environment, "OS_CLIENT_CONFIG_FILE": str(tmp_path / "b/state/clouds.yaml")}
            beyond = openstack.with_environment(other)
            assert [server["Name"] for server in beyond.json("server list")] == ["vm1"]
            beyond("server delete --wait vm1")
            assert openstack.json("server list") == []
            for what in ("network", "image"):  # made once, by four workers that started at once
                assert len(beyond.json(f"{what} list")) == 1

    await asyncio.to_thread(use)
    no_secrets_are_shown(cluster, [*first.workers(), first.pid, *second.workers(), hosts.pid])
    await another_secret_is_refused(cluster)
    await the_secret_is_replaced(cluster, first, second)
    for machine in (second, hosts):
        machine.send(signal.SIGTERM)
        assert await machine.ended() == 0, machine.said()


async def test_workers_come_and_go(cluster: Cluster) -> None:
    machine, hosts = await asyncio.gather(cluster.serve("a"), cluster.host("hosts", sim_hosts=10))
    await asyncio.gather(machine.ready(), hosts.ready())
    user = User(machine.base_url, await log_in(cluster, machine, "a"))
    await user.prepare()
    await a_killed_worker_is_replaced(machine, user)
    await workers_are_replaced_without_a_lost_request(machine, user)
    await what_was_asked_is_answered_before_the_end(machine, user)


async def workers_end_with_their_supervisor(machine: Command) -> None:
    workers = machine.workers()
    assert len(workers) == 2
    machine.send(signal.SIGKILL)
    await machine.ended()
    await until(lambda: not any(is_running(pid) for pid in workers), "the workers have ended")


async def another_secret_is_refused(cluster: Cluster) -> None:
    path = cluster.settings("c", serve={"workers": 1})
    path.write_text(path.read_text().replace("s" * 40, "t" * 40))
    machine = await cluster.command("c", "serve", "--settings", str(path), "--port", "0")
    assert await machine.ended() == 1
    assert "the same secret as the others" in machine.said()


async def the_secret_is_replaced(cluster: Cluster, first: Command, second: Command) -> None:
    """As docs/operations.md says: one machine after the other; no token and no ticket is refused meanwhile."""
    new = "n" * 40
    path, password = cluster.folder / "b/muster.toml", cluster.password("b")
    settings = path.read_text()
    tokens = [await log_in(cluster, first, "a")]
    images = await http.ask(first.base_url, "GET", "/image/v2/images", token=tokens[0])
    image_id = images.body["images"][0]["id"]
    tickets = [ImageTickets(ClusterSecret(SECRET), time.time).issue(image_id)]

    async def all_are_good(machines: list[Command]) -> None:
        for machine in machines * 4:  # often enough for each of its workers to have been asked, most likely
            for token in tokens:
                answer = await http.ask(machine.base_url, "GET", "/compute/v2.1/servers", token=token)
                assert answer.status == 200, answer
            assert 403 not in [await fetched(machine, ticket) for ticket in tickets]
            assert await fetched(machine, ImageTickets(ClusterSecret("f" * 40), time.time).issue(image_id)) == 403

    async def fetched(machine: Command, ticket: str) -> int:
        async with httpx.AsyncClient(timeout=300) as client:
            url = f"{machine.base_url}/hosts/images/{image_id}"
            return (await client.get(url, headers={"X-Image-Ticket": ticket})).status_code

    async def replaced(text: str) -> None:
        path.write_text(text)
        before = set(second.workers())
        second.send(signal.SIGHUP)
        await until(
            lambda: len(now := set(second.workers())) == 2 and not now & before, f"others serve: {second.said()}"
        )

    mixed = f'previous_secrets = ["{SECRET}"]\nadmin_password = "{password}"\n'
    await replaced(mixed + settings.replace(SECRET, new, 1))
    tokens.append(await log_in(cluster, second, "b"))
    tickets.append(ImageTickets(ClusterSecret(new, [SECRET]), time.time).issue(image_id))
    await all_are_good([first, second])

    await workers_end_with_their_supervisor(first)
    connection = await asyncpg.connect(cluster.database_url)
    try:

        async def is_sealed_for_both() -> bool:
            return all(
                len(row["sealed"].split()) == 2 for row in await connection.fetch("SELECT sealed FROM token_keys")
            )

        await until(is_sealed_for_both, "the keys are sealed for the new secret too")
    finally:
        await connection.close()
    await replaced(f'admin_password = "{password}"\n' + settings.replace(SECRET, new, 1))
    del tickets[0]  # made by who knew nothing of the new secret: an hour later there is none
    await all_are_good([second])


async def health_and_metrics_are_told(machine: Command, metrics: int) -> None:
    """Each of two workers has metrics of its own, and so have the hosts; none has them beside the APIs."""
    for path in ("/healthcheck", "/healthcheck/ready"):
        answer = await http.ask(machine.base_url, "GET", path)
        assert (answer.status, answer.body) == (200, {"status": "ok"})
    async with httpx.AsyncClient(timeout=300) as client:
        assert (await client.get(f"{machine.base_url}/metrics")).status_code == 404
        pages = [(await client.get(f"http://127.0.0.1:{metrics + index}/metrics")).text for index in range(3)]
    assert all("# TYPE muster_requests_total" in page for page in pages)


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


async def images_are_fetched(cluster: Cluster, first: Command, second: Command) -> None:
    """Each machine has an image folder of its own: what is uploaded at one is read at the other."""
    headers = {"X-Auth-Token": await log_in(cluster, first, "a"), "Content-Type": "application/octet-stream"}
    draft = {"name": "mine", "disk_format": "raw", "container_format": "bare"}
    content = os.urandom(5_000_000)
    async with httpx.AsyncClient(timeout=120, headers=headers) as client:
        made = await client.post(f"{first.base_url}/image/v2/images", json=draft)
        path = f"/image/v2/images/{made.json()['id']}"
        assert (await client.put(f"{first.base_url}{path}/file", content=content)).status_code == 204

        async def is_read(machine: Command) -> bool:
            answer = await client.get(f"{machine.base_url}{path}/file")
            assert answer.status_code == 503 or answer.content == content
            return answer.status_code == 200

        for machine in (first, second):
            await until(lambda machine=machine: is_read(machine), "the image is read")  # type: ignore[misc]
        folders = [cluster.folder / name / "state/images" for name in "ab"]
        assert all((folder / made.json()["id"]).read_bytes() == content for folder in folders)
        assert (await client.delete(f"{first.base_url}{path}")).status_code == 204
        assert (await client.get(f"{second.base_url}{path}/file")).status_code == 404


async def a_machine_with_the_url_of_another_is_not_ready(cluster: Cluster, first: Command, url: str) -> None:
    copied = await cluster.serve("copied", workers=1, image_url=url)
    await copied.ready()

    async def is_found() -> bool:
        answer = await http.ask(copied.base_url, "GET", "/healthcheck/ready")
        return answer.status == 503 and "images" in answer.body["reasons"]

    await until(is_found, "the machine with the URL of another is not ready")
    assert (await http.ask(first.base_url, "GET", "/healthcheck/ready")).status == 200
    copied.send(signal.SIGTERM)
    assert await copied.ended() == 0, copied.said()


class User:
    """Makes servers, each by a request of its own."""

    def __init__(self, base_url: str, token: str) -> None:
        self.base_url = base_url
        self.token = token
        self._references: dict[str, str] = {}

    async def ask(self, method: str, path: str, body: Any = None) -> http.Answer:
        return await http.ask(self.base_url, method, path, body, token=self.token)

    async def prepare(self) -> None:
        images, networks = await asyncio.gather(
            self.ask("GET", "/image/v2/images"), self.ask("GET", "/network/v2.0/networks")
        )
        self._references = {"image": images.body["images"][0]["id"], "network": networks.body["networks"][0]["id"]}

    async def create(self) -> http.Answer:
        server = {
            "name": "vm",
            "imageRef": self._references["image"],
            "flavorRef": "1",
            "networks": [{"uuid": self._references["network"]}],
        }
        return await self.ask("POST", "/compute/v2.1/servers", {"server": server})

    async def servers(self) -> list[dict[str, Any]]:
        return await http.servers(self.base_url, self.token)


async def a_killed_worker_is_replaced(machine: Command, user: User) -> None:
    """What it had accepted becomes ACTIVE, what it had not is not there twice, and there are two workers again."""
    before = machine.workers()
    requests = [asyncio.create_task(user.create()) for _ in range(50)]
    await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
    os.kill(before[0], signal.SIGKILL)
    answers = await asyncio.gather(*requests)
    assert {answer.status for answer in answers} <= {202, None}, "a lost request is the only harm"
    accepted = {answer.body["server"]["id"] for answer in answers if answer.status == 202}
    assert accepted

    async def all_active() -> bool:
        return {server["status"] for server in await user.servers()} == {"ACTIVE"}

    await until(all_active, "every server is ACTIVE")
    found = await user.servers()
    assert accepted <= {server["id"] for server in found}
    assert len(found) <= len(answers)
    given = [address["addr"] for server in found for ips in server["addresses"].values() for address in ips]
    assert len(set(given)) == len(given) == len(found)
    await until(lambda: len(set(machine.workers()) - {before[0]}) == 2, "there are two workers again")
    gone = await asyncio.gather(*(user.ask("DELETE", f"/compute/v2.1/servers/{server['id']}") for server in found))
    assert {answer.status for answer in gone} == {204}

    async def none_left() -> bool:
        return await user.servers() == []

    await until(none_left, "no server is left")


async def workers_are_replaced_without_a_lost_request(machine: Command, user: User) -> None:
    """SIGHUP under requests that never cease: on connections of their own, and on kept ones."""
    over = asyncio.Event()
    answered = 0

    async def keep_asking() -> None:
        nonlocal answered
        while not over.is_set():
            answer = await user.ask("GET", "/compute/v2.1/servers")
            assert answer.status == 200, answer
            answered += 1
            await asyncio.sleep(0.02)  # the new workers need a processor to start

    def keep_asking_on_one_connection() -> int:
        count = 0
        where = urlsplit(user.base_url)
        connection = HTTPConnection(where.hostname or "", where.port, timeout=300)
        while not over.is_set():
            connection.request("GET", "/compute/v2.1/servers", headers={"X-Auth-Token": user.token})
            response = connection.getresponse()
            response.read()
            assert response.status == 200
            count += 1  # a connection that is to be closed is made anew by http.client
            time.sleep(0.02)
        connection.close()
        return count

    asking = [asyncio.create_task(keep_asking()) for _ in range(4)]
    kept = [asyncio.create_task(asyncio.to_thread(keep_asking_on_one_connection)) for _ in range(2)]
    try:
        before = set(machine.workers())
        machine.send(signal.SIGHUP)
        await until(
            lambda: len(now := set(machine.workers())) == 2 and not now & before,
            f"both workers are others: {machine.said()}",
        )
    finally:
        over.set()
        await asyncio.gather(*asking)
        counts = await asyncio.gather(*kept)
    assert answered > 50
    assert min(counts) > 10


async def what_was_asked_is_answered_before_the_end(machine: Command, user: User) -> None:
    """SIGTERM in the middle of an upload, and with a connection that has not asked yet: both are answered."""
    image = {"name": "late", "disk_format": "raw", "container_format": "bare"}
    made = await user.ask("POST", "/image/v2/images", image)
    where = urlsplit(user.base_url)
    upload = HTTPConnection(where.hostname or "", where.port, timeout=300)
    upload.putrequest("PUT", f"/image/v2/images/{made.body['id']}/file")
    for name, value in {
        "X-Auth-Token": user.token,
        "Content-Type": "application/octet-stream",
        "Content-Length": "2000000",
    }.items():
        upload.putheader(name, value)
    upload.endheaders(b"a" * 1_000_000)
    late = HTTPConnection(where.hostname or "", where.port, timeout=300)
    late.connect()
    await until(lambda: accepted(upload) and accepted(late), "both connections are a worker's")

    async def saving() -> bool:
        return (await user.ask("GET", f"/image/v2/images/{made.body['id']}")).body["status"] == "saving"

    await until(saving, "the upload has begun")
    machine.send(signal.SIGTERM)
    await until(lambda: refused(where.hostname or "", where.port or 0), "nothing new is accepted")
    late.request("GET", "/healthcheck")
    answer = late.getresponse()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert len(machine.workers()) >= 1
    upload.send(b"b" * 1_000_000)
    assert upload.getresponse().status == 204
    assert await machine.ended() == 0, machine.said()


def accepted(connection: HTTPConnection) -> bool:
    """Whether a process has taken the other end of a connection: until then it waits in the kernel, as nobody's."""
    mine, there = (f":{end[1]:04X}" for end in (connection.sock.getsockname(), connection.sock.getpeername()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return any(row[1].endswith(there) and row[2].endswith(mine) and row[9] != "0" for row in rows[1:])


def refused(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) != 0


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def no_secrets_are_shown(cluster: Cluster, pids: list[int]) -> None:
    """Not in the arguments nor in the environment of any process; its files are its owner's only."""
    secrets = [b"s" * 40, cluster.password("a").encode(), PASSWORD.encode()]
    for pid in pids:
        for name in ("cmdline", "environ"):
            shown = Path(f"/proc/{pid}/{name}").read_bytes()
            assert shown
            assert not [secret for secret in secrets if secret in shown]
    assert Path(cluster.folder / "a" / "state" / "clouds.yaml").stat().st_mode & 0o077 == 0

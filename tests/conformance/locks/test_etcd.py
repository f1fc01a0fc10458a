"""What the native etcd locks promise beyond the common suite. Whoever kills or pauses a member brings it back."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.request import urlopen

import grpc
import grpc.aio
import pytest

from muster.base.errors import Transient
from muster.locks.etcd import EtcdLocks
from muster.locks.etcd_members import Member, Refused
from muster.locks.etcd_settings import from_url
from tests.commands import HANG_S
from tests.conformance.locks.conftest import PATIENT
from tests.conformance.locks.test_locks import held, hold_until
from tests.engines.certificates import Authority
from tests.engines.etcd import Etcd


@asynccontextmanager
async def opened(url: str, count: int = 1) -> AsyncIterator[list[EtcdLocks]]:
    services = [EtcdLocks(from_url(url)) for _ in range(count)]
    try:
        yield services
    finally:
        await asyncio.shield(asyncio.gather(*(service.close() for service in services)))


@contextmanager
def paused(cluster: Etcd) -> Iterator[None]:
    """Every member stands still, as a link that lets nothing through looks from outside."""
    for member in cluster.members:
        member.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for member in cluster.members:
            member.signal(signal.SIGCONT)
        cluster.await_healthy()


async def eventually(condition: Callable[[], Awaitable[bool] | bool]) -> None:
    deadline = time.monotonic() + HANG_S
    while True:
        outcome = condition()
        if outcome if isinstance(outcome, bool) else await outcome:
            return
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def held_again(locks: EtcdLocks, name: str) -> int:
    """A token, once etcd gives the lock: when it has just come back it may be slow to."""
    while True:
        try:
            async with locks.hold(name) as grant:
                return grant.token
        except Transient as error:
            await asyncio.sleep(error.retry_after_s)


async def no_leases(cluster: Etcd) -> None:
    await eventually(lambda: cluster.leases() == 0)


def requests_served(cluster: Etcd) -> int:
    """How many reads and transactions the cluster has served."""
    total = 0
    for member in cluster.members:
        with urlopen(f"http://{member.endpoint}/metrics", timeout=120) as answer:
            lines = answer.read().decode().splitlines()
        counted = [line for line in lines if line.startswith("grpc_server_started_total") and "etcdserverpb.KV" in line]
        total += sum(int(float(line.rpartition(" ")[2])) for line in counted)
    return total


async def test_no_lease_is_left_behind(three_etcd: Etcd, name: str) -> None:
    async with opened(f"etcd://{three_etcd.endpoints}?lease_s=600&{PATIENT}", 2) as [mine, other]:
        for _ in range(5):
            async with mine.hold_all([f"{name}-a", f"{name}-b"]):
                await eventually(lambda: three_etcd.leases() == 1)
        with pytest.raises(ValueError, match="inside"):
            async with mine.hold(name):
                raise ValueError("inside")
        await no_leases(three_etcd)
        task, release = await held(mine, name)
        waiters = [asyncio.create_task(hold_until(other, name, release)) for _ in range(5)]
        await eventually(lambda: three_etcd.leases() == 6)
        for waiter in waiters:
            waiter.cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        await eventually(lambda: three_etcd.leases() == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await no_leases(three_etcd)
        for step in range(20):  # in the middle of any request
            task = asyncio.create_task(hold_until(mine, name, asyncio.Event()))
            await asyncio.sleep(step * 0.0005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    await no_leases(three_etcd)


async def test_first_come_first_served_over_all_processes(three_etcd: Etcd, name: str) -> None:
    order: list[int] = []

    async def wait(locks: EtcdLocks, index: int) -> None:
        async with locks.hold(name):
            order.append(index)

    async with opened(f"etcd://{three_etcd.endpoints}?lease_s=60&{PATIENT}", 3) as services:
        task, release = await held(services[0], name)
        waiters = []
        for index in range(9):
            waiters.append(asyncio.create_task(wait(services[index % 3], index)))
            await eventually(lambda count=index + 2: three_etcd.keys(f"/muster/locks/{name}/") == count)
        waiters.pop(4).cancel()  # one in the middle leaves; the rest keep their places
        release.set()
        await asyncio.wait_for(asyncio.gather(task, *waiters), HANG_S)
    assert order == [0, 1, 2, 3, 5, 6, 7, 8]


async def test_waiting_asks_nothing(three_etcd: Etcd, name: str) -> None:
    async with opened(f"etcd://{three_etcd.endpoints}?lease_s=60&{PATIENT}", 2) as [mine, other]:
        task, release = await held(mine, name)
        waiters = [asyncio.create_task(hold_until(other, name, release)) for _ in range(5)]

        async def nothing_is_asked() -> bool:  # once all have queued
            before = requests_served(three_etcd)
            await asyncio.sleep(1.5)
            return requests_served(three_etcd) == before

        await eventually(nothing_is_asked)
        release.set()
        await asyncio.wait_for(asyncio.gather(task, *waiters), HANG_S)


async def test_a_revoked_lease_is_noticed_at_once(three_etcd: Etcd, name: str) -> None:
    async with (
        opened(f"etcd://{three_etcd.endpoints}?lease_s=600&{PATIENT}", 2) as [mine, other],
        mine.hold(name) as grant,
    ):
        [lease] = three_etcd.lease_ids()
        three_etcd.ctl("lease", "revoke", f"{lease:x}")
        await asyncio.wait_for(grant.lost.wait(), HANG_S)  # a renewal would come after 200 s
        async with other.hold(name) as next_grant:
            assert next_grant.token > grant.token
            assert not next_grant.lost.is_set()
    await no_leases(three_etcd)


async def test_a_waiter_whose_lease_is_revoked_queues_again(three_etcd: Etcd, name: str) -> None:
    async with opened(f"etcd://{three_etcd.endpoints}?lease_s=600&{PATIENT}", 2) as [mine, other]:
        task, release = await held(mine, name)
        mine_only = three_etcd.lease_ids()
        waiter = asyncio.create_task(hold_until(other, name, release))
        await eventually(lambda: three_etcd.leases() == 2)
        [theirs] = three_etcd.lease_ids() - mine_only
        three_etcd.ctl("lease", "revoke", f"{theirs:x}")
        release.set()
        first, second = await asyncio.wait_for(asyncio.gather(task, waiter), HANG_S)
        assert second > first


async def test_an_etcd_that_does_not_answer_is_told_and_never_hangs(three_etcd: Etcd, name: str) -> None:
    url = f"etcd://{three_etcd.endpoints}?lease_s=4&try_s=1&away_s=10"
    async with opened(url, 2) as [mine, other]:
        task, _ = await held(mine, name)
        waiter = asyncio.create_task(hold_until(other, name, asyncio.Event()))
        async with mine.hold(f"{name}-kept") as kept:
            await asyncio.sleep(0.3)
            with paused(three_etcd):
                with pytest.raises(Transient) as caught:
                    async with asyncio.timeout(HANG_S), mine.hold(f"{name}-new"):
                        pass
                assert caught.value.retry_after_s > 0
                await asyncio.wait_for(kept.lost.wait(), HANG_S)
                with pytest.raises(Transient):
                    await asyncio.wait_for(waiter, HANG_S)
                task.cancel()  # releasing does not hang either
                await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), HANG_S)
        async with asyncio.timeout(HANG_S):
            await held_again(mine, name)
            assert await held_again(mine, f"{name}-kept") > kept.token
    await no_leases(three_etcd)


async def test_the_leader_dies_while_a_lock_is_held_and_waited_for(three_etcd: Etcd, name: str) -> None:
    async with opened(f"etcd://{three_etcd.endpoints}?lease_s=60&{PATIENT}", 3) as services:
        leader = three_etcd.leader()
        endpoints = ",".join([leader.endpoint] + [m.endpoint for m in three_etcd.members if m is not leader])
        async with opened(f"etcd://{endpoints}?lease_s=60&{PATIENT}", 2) as on_leader:  # and who is connected to it
            release = asyncio.Event()
            async with on_leader[0].hold(name) as grant:
                waiters = [asyncio.create_task(hold_until(locks, name, release)) for locks in [*services, on_leader[1]]]
                await eventually(lambda: three_etcd.leases() == 5)
                leader.kill()
                try:
                    async with asyncio.timeout(HANG_S), on_leader[1].hold(f"{name}-new"):
                        pass
                    assert not grant.lost.is_set()
                    assert not any(waiter.done() for waiter in waiters)
                finally:
                    three_etcd.start_member(leader)
            release.set()
            tokens = await asyncio.wait_for(asyncio.gather(*waiters), HANG_S)
            assert all(token > grant.token for token in tokens)
    three_etcd.await_healthy()
    await no_leases(three_etcd)


@pytest.mark.parametrize("kind", ["closed", "silent"])
async def test_a_member_that_is_away_is_left_for_the_next(three_etcd: Etcd, name: str, kind: str) -> None:
    with socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        if kind == "silent":
            dead.listen()
        url = f"etcd://127.0.0.1:{dead.getsockname()[1]},{three_etcd.endpoints}?try_s=1&{PATIENT}"
        async with opened(url) as [locks], asyncio.timeout(HANG_S), locks.hold(name):
            pass


async def test_an_answer_that_gets_lost_changes_nothing(
    three_etcd: Etcd, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: set[str] = set()

    def losing(method: str) -> None:
        really = getattr(Member, method)

        async def lose_first(self: Member, *arguments: object) -> object:
            answer = await really(self, *arguments)
            if method not in lost:
                lost.add(method)
                raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata())
            return answer

        monkeypatch.setattr(Member, method, lose_first)

    async with opened(f"etcd://{three_etcd.endpoints}?lease_s=600&{PATIENT}", 2) as [mine, other]:
        await mine.start()
        for method in ("grant", "transact", "revoke"):
            losing(method)
        async with mine.hold(name) as grant:
            waiter = asyncio.create_task(held(other, name))
            await asyncio.sleep(0.2)
            assert not waiter.done()
        task, release = await asyncio.wait_for(waiter, HANG_S)
        release.set()
        assert await task > grant.token
    assert lost == {"grant", "transact", "revoke"}
    await no_leases(three_etcd)


async def test_etcdctl_queues_for_the_same_locks(three_etcd: Etcd, name: str) -> None:
    async with opened(f"etcd://{three_etcd.endpoints}/elsewhere/locks?{PATIENT}") as [locks]:
        async with locks.hold(name):
            control = asyncio.create_task(
                asyncio.to_thread(three_etcd.ctl, "lock", f"/elsewhere/locks/{name}", "echo", "through")
            )
            await asyncio.sleep(0.5)
            assert not control.done()
        assert "through" in await asyncio.wait_for(control, HANG_S)


async def test_tokens_grow_also_over_an_etcd_that_was_built_anew(tmp_path: Path) -> None:
    tokens = []
    for age in ("old", "new"):
        folder = tmp_path / age
        folder.mkdir()
        cluster = Etcd(folder)
        try:
            cluster.start()
            for index in range(50 if age == "old" else 0):
                cluster.ctl("put", "something", str(index))
            async with opened(f"etcd://{cluster.endpoints}?{PATIENT}") as [locks], locks.hold("subnet/1") as grant:
                tokens.append(grant.token)
        finally:
            cluster.close()
    assert tokens[1] > tokens[0]
    assert tokens[1] < 2**63  # what the database keeps


async def test_with_tls_and_client_certificates(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client = authority.issue("server"), authority.issue("client")
    flags = [f"--cert-file={server[0]}", f"--key-file={server[1]}"]
    flags += ["--client-cert-auth", f"--trusted-ca-file={authority.file}"]
    cluster = Etcd(tmp_path, options=flags, scheme="https")
    cluster.ctl_options = [f"--cacert={authority.file}", f"--cert={client[0]}", f"--key={client[1]}"]
    try:
        cluster.start()
        files = f"ca_file={authority.file}&cert_file={client[0]}&key_file={client[1]}"
        async with opened(f"etcds://{cluster.endpoints}?{files}&{PATIENT}") as [locks], locks.hold("subnet/1") as grant:
            assert grant.token > 0
        for wrong in (f"etcds://{cluster.endpoints}?ca_file={authority.file}", f"etcd://{cluster.endpoints}"):
            async with opened(wrong + ("&" if "?" in wrong else "?") + "away_s=0.5&try_s=0.5") as [locks]:
                with pytest.raises(Transient):
                    await locks.start()
    finally:
        cluster.close()


async def taken_once(locks: EtcdLocks, name: str) -> None:
    async with locks.hold(name):
        pass


async def test_with_user_and_password(tmp_path: Path) -> None:
    cluster = Etcd(tmp_path)
    try:
        cluster.start()
        cluster.ctl("user", "add", "root:secret-of-root")
        cluster.ctl("user", "grant-role", "root", "root")
        cluster.ctl("role", "add", "locks")
        cluster.ctl("role", "grant-permission", "--prefix=true", "locks", "readwrite", "/muster/locks/")
        cluster.ctl("user", "add", "muster:p@ss:word")
        cluster.ctl("user", "grant-role", "muster", "locks")
        cluster.ctl("auth", "enable")
        cluster.ctl_options = ["--user=root:secret-of-root"]
        url = f"etcd://muster:p%40ss%3Aword@{cluster.endpoints}"
        async with opened(f"{url}?lease_s=60&{PATIENT}") as [locks], locks.hold("subnet/1") as grant:
            [member] = cluster.members
            member.kill()  # it forgets the tokens that it gave out
            cluster.start_member(member)
            async with asyncio.timeout(HANG_S), locks.hold("subnet/2"):
                pass
            for words in (("delete", "muster"), ("add", "muster:p@ss:word"), ("grant-role", "muster", "locks")):
                cluster.ctl("user", *words)  # the tokens of before are not taken any more
            async with asyncio.timeout(HANG_S):  # several ask at once: all but one were told that they may not
                await asyncio.gather(*(taken_once(locks, f"subnet/{number}") for number in range(3, 13)))
            assert not grant.lost.is_set()
        for wrong in (f"etcd://muster:no@{cluster.endpoints}", f"etcd://{cluster.endpoints}", url + "/elsewhere"):
            async with opened(f"{wrong}?{PATIENT}") as [locks]:
                with pytest.raises(Refused) as caught:
                    await locks.start()
                assert "p@ss" not in str(caught.value)
        await no_leases(cluster)
    finally:
        cluster.close()

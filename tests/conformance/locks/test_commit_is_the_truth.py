"""A lock keeps others from wasting work; that addresses never double does not rest on it."""

import asyncio
import signal
import sys
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select

from muster.base.ids import new_uuid
from muster.domain.networks import NewNetwork
from muster.domain.ports import NewPort
from muster.domain.subnets import NewSubnet, Pool
from muster.locks.open import open_locks
from muster.store.addresses import addresses
from muster.store.engine import Database
from muster.store.subnets import subnets
from tests.commands import HANG_S, started
from tests.conformance.locks.conftest import LEASE_S, PATIENT
from tests.conformance.locks.lying import UNDER_LOCKS, LyingLocks, Outcome
from tests.conformance.store.network_cloud import ADMIN, Services, network_cloud
from tests.databases import make_tables
from tests.engines.etcd import Etcd
from tests.engines.postgres import Postgres

PORTS = 200


async def a_network(worker: Services) -> str:
    """A network with exactly PORTS addresses to give out."""
    [network] = await worker.networks.create(ADMIN, [NewNetwork(id=new_uuid(), project_id="p1")])
    subnet = NewSubnet(
        id=new_uuid(),
        project_id="p1",
        network_id=network.id,
        ip_version=4,
        cidr="10.1.0.0/16",
        allocation_pools=(Pool("10.1.1.1", f"10.1.1.{PORTS}"),),
        enable_dhcp=False,
    )
    await worker.subnets.create(ADMIN, [subnet])
    return network.id


def draft(network_id: str) -> NewPort:
    return NewPort(id=new_uuid(), project_id="p1", network_id=network_id)


@pytest.mark.parametrize("tokens", [None, [7], [3, 2, 1]], ids=["growing", "the same", "falling"])
async def test_a_lock_service_that_gives_the_lock_to_two_at_once(
    postgres: Postgres, tmp_path: Path, tokens: list[int] | None
) -> None:
    url = await postgres.create_database()
    databases = [Database(url), Database(url)]
    await make_tables(databases[0])
    locks = LyingLocks(tokens)
    try:
        async with (
            network_cloud(databases[0], tmp_path, "one", locks, UNDER_LOCKS) as one,
            network_cloud(databases[1], tmp_path, "two", locks, UNDER_LOCKS) as two,
        ):
            network_id = await a_network(one)

            async def make(worker: Services, index: int) -> str:
                await asyncio.sleep(index * 0.002)  # many batches, not one
                while True:
                    try:
                        port = await worker.ports.create(ADMIN, draft(network_id))
                    except Exception as error:
                        if tokens is None or "Too much changed at once" not in str(error):
                            raise
                        continue  # tokens that fall are refused, however long that goes on
                    return port.fixed_ips[0].ip_address

            async with asyncio.timeout(HANG_S):
                made = await asyncio.gather(*(make((one, two)[index % 2], index) for index in range(PORTS)))
        assert locks.overlaps > 0
        assert len(set(made)) == PORTS
        async with databases[0].read() as connection:
            given = select(func.count()).where(addresses.c.network_id == network_id, addresses.c.port_id.is_not(None))
            assert (await connection.execute(given)).scalar_one() == PORTS
    finally:
        await asyncio.gather(*(database.close() for database in databases))


async def test_a_process_that_was_stopped_beyond_its_lease_cannot_overwrite(
    postgres: Postgres, etcd: Etcd, tmp_path: Path
) -> None:
    url, locks_url = await postgres.create_database(), f"etcd://{etcd.endpoints}?lease_s={LEASE_S}&{PATIENT}"
    database = Database(url)
    await make_tables(database)
    locks = await open_locks(locks_url, "awake", tmp_path)
    try:
        async with network_cloud(database, tmp_path, "awake", locks, UNDER_LOCKS) as worker:
            network_id = await a_network(worker)
            words = (sys.executable, "-m", "tests.conformance.locks.lying", locks_url, url, network_id)
            async with started(*words, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3]) as child:
                assert child.stdout is not None
                assert await asyncio.wait_for(child.stdout.readline(), HANG_S) == b"held\n"
                async with asyncio.timeout(HANG_S):  # waits for the lease of who is stopped, then goes on
                    mine = await asyncio.gather(*(worker.ports.create(ADMIN, draft(network_id)) for _ in range(20)))
                fence = await _fence(database)
                child.send_signal(signal.SIGCONT)
                said = await asyncio.wait_for(child.stdout.read(), HANG_S)
                outcome = msgspec.json.decode(said.splitlines()[-1], type=Outcome)
        assert outcome.decided_again >= 1  # the database knew of a later holder, though the process did not
        assert outcome.address not in {port.fixed_ips[0].ip_address for port in mine}
        assert await _fence(database) > fence
    finally:
        await locks.close()
        await database.close()


async def _fence(database: Database) -> int:
    async with database.read() as connection:
        return int((await connection.execute(select(func.max(subnets.c.fence)))).scalar_one())

"""What an operator says of overcommit is what hosts may be filled to."""

from pathlib import Path

from muster.cli.cloud import CloudSettings, running
from muster.domain.placement import Overcommit
from muster.host.hypervisor.sim import SimSettings
from muster.store.hosts import read_pictures


async def test_hosts_take_as_much_as_the_operator_says(tmp_path: Path) -> None:
    overcommit, capacity = Overcommit(cpu=3.0, ram=1.0), SimSettings().capacity
    settings = CloudSettings(folder=tmp_path, sim_hosts=1, overcommit=overcommit)
    async with running(settings, "secret") as cloud, cloud.database.read() as connection:
        [host] = await read_pictures(connection, seen_after=0.0)
    assert host.free.vcpus == 3 * capacity.vcpus
    assert host.free.ram_mib == capacity.ram_mib - capacity.reserved_ram_mib

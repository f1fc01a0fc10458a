"""A host has as many servers at most as a bridge has ports, however much memory it has."""

from pathlib import Path

from sqlalchemy import update

from muster.domain.placement import SERVERS_PER_BRIDGE
from muster.store.hosts import hosts

from .loop import Ear, a_loop


async def test_a_host_whose_bridge_is_full_gets_no_more_servers(tmp_path: Path) -> None:
    async with a_loop(tmp_path) as loop:
        real, simulated = Ear(loop, "real", firewall=True), Ear(loop, "sim", firewall=False)
        for host in (real, simulated):
            await host.say_hello()
        async with loop.database.write() as connection:
            await connection.execute(update(hosts).values(servers_used=SERVERS_PER_BRIDGE - 1))
        made = await loop.compute.creation.create([loop.draft("real") for _ in range(3)])
        assert sorted(server.status for server in made) == ["BUILD", "ERROR", "ERROR"]
        fault = next(server.fault for server in made if server.fault)
        assert "No valid host" in fault.message
        made = await loop.compute.creation.create([loop.draft("sim") for _ in range(3)])
        assert {server.status for server in made} == {"BUILD"}

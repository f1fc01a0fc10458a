"""The auditor finds nothing in a sound cloud, and each thing that is made wrong in its database."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.audit import ledger
from tests.functional.compute.beds import a_cloud, bed_in

A_PORT = "SELECT id FROM ports WHERE device_owner LIKE 'compute:%' LIMIT 1"
A_SERVER = "SELECT id FROM servers WHERE deleted_at IS NULL AND host_id IS NOT NULL LIMIT 1"
AN_ADDRESS = f"subnet_id || address IN (SELECT subnet_id || address FROM addresses WHERE port_id = ({A_PORT}))"
A_RANGE = "subnet_id || first = (SELECT min(subnet_id || first) FROM free_ranges)"

# What is done to the database, and a part of what must be said of it.
SABOTAGE = {
    f"DELETE FROM addresses WHERE {AN_ADDRESS}": "has no address",
    f"UPDATE addresses SET port_id = NULL WHERE {AN_ADDRESS}": "neither rests nor has a port",
    f"UPDATE addresses SET ip_address = '10.0.0.250' WHERE {AN_ADDRESS}": "kept as the number of another",
    f"UPDATE free_ranges SET first = '{0x0A000001:032x}' WHERE {A_RANGE}": "is there twice",
    f"UPDATE free_ranges SET last = '{0x0A000080:032x}' WHERE {A_RANGE}": "not what its pools hold",
    f"DELETE FROM servers WHERE id = ({A_SERVER})": "has no server",
    f"UPDATE servers SET deleted_at = 1.0 WHERE id = ({A_SERVER})": "has no server",
    f"UPDATE ports SET device_id = '', device_owner = '' WHERE id = ({A_PORT})": "has a host but no port",
    f"UPDATE ports SET binding_host_id = 'elsewhere' WHERE id = ({A_PORT})": "bound to another host",
    f"UPDATE servers SET host_id = NULL WHERE id = ({A_SERVER})": "has no host and is not in error",
    "UPDATE hosts SET firewall = 1, host_ip = '192.0.2.1'": "has a port and is no member",
    "INSERT INTO network_members (network_id, host_id, ip_address) SELECT id, 'h', '192.0.2.9' FROM networks": (
        "is a member without a port"
    ),
    "UPDATE hosts SET ram_used_mib = ram_used_mib + 1": "but its servers take",
    "UPDATE hosts SET servers_used = servers_used - 1": "but its servers take",
    "UPDATE hosts SET vcpus_limit = 0": "of (0, ",
    "UPDATE usages SET in_use = in_use + 1 WHERE resource = 'cores'": "of cores are counted",
    "DELETE FROM usages WHERE resource = 'port'": "0 of port are counted",
    "UPDATE user_quotas SET in_use = in_use + 1": "of instances are counted, 3 are there",
    "UPDATE usages SET by_user = 0": "nobody is told to count instances by user",
    "INSERT INTO tags (resource_id, tag) VALUES ('nothing', 'x')": "tags of nothing",
    f"DELETE FROM ports WHERE id = ({A_PORT})": "links of ports to security groups",
    "INSERT INTO outbox (host_id, seq, created_at) VALUES ('h', 1, 1.0)": "notes for hosts",
    "UPDATE instance_actions SET finished_at = NULL": "never ended",
    "DELETE FROM instance_actions": "created 0 times",
    "UPDATE instance_actions SET server_id = 'nobody'": "actions of servers",
    "INSERT INTO server_tags (server_id, tag) VALUES ('nobody', 'x')": "tags of servers",
}


async def test_each_fault_is_found(tmp_path: Path) -> None:
    path = tmp_path / "muster.db"
    async with a_cloud(tmp_path, 2) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/24")
        context = bed.context
        await cloud.compute.user_quotas.update(str(context.project_id), context.user_id, {"instances": 9}, force=False)
        made = [await bed.create() for _ in range(4)]
        await bed.settled(4)
        await bed.delete(made[0].id)
        await bed.settled(3)
        await bed.rest()
        assert ledger.restless(path) == []
        assert ledger.audit(path) == []
    for statement, said in SABOTAGE.items():
        copy = tmp_path / "copy.db"
        shutil.copy(path, copy)
        with closing(sqlite3.connect(copy)) as connection:
            assert connection.execute(statement).rowcount > 0, statement
            connection.commit()
        assert any(said in complaint for complaint in ledger.audit(copy)), (statement, ledger.audit(copy))


async def test_what_is_on_its_way_is_seen(tmp_path: Path) -> None:
    async with a_cloud(tmp_path, 1) as cloud:
        bed = await bed_in(cloud, "10.0.0.0/24")
        await bed.create()
        await bed.settled(1)
        await bed.rest()
    path = tmp_path / "muster.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE servers SET vm_state = 'building', task_state = 'spawning'")
        connection.execute("INSERT INTO outbox (host_id, seq, created_at) VALUES ('h', 1, 1.0)")
        connection.commit()
    assert ledger.restless(path) == ["1 servers are building/spawning", "1 notes in the outbox"]

"""Hosts and servers for the conformance tests of compute's statements."""

from muster.domain.messages import Hello
from muster.domain.placement import Overcommit
from muster.domain.reports import HostCapacity
from muster.domain.servers import FlavorPicture, Server
from muster.domain.specs import Power
from muster.store import hosts as host_store
from muster.store import servers as server_store
from muster.store.engine import Connection

CAPACITY = HostCapacity(vcpus=8, ram_mib=10_000, disk_gib=100)
FLAVOR = FlavorPicture(id="f", name="f", vcpus=1, ram_mib=512, disk_gib=1)


async def add_hosts(connection: Connection, *names: str, now: float = 1.0, **fields: object) -> None:
    """Hosts whose agents have just said hello; their names are their ids."""
    values = {"hypervisor_type": "sim", "hypervisor_version": 1, "capacity": CAPACITY, **fields}
    hellos = [Hello(host_id=name, hostname=name, **values) for name in names]  # type: ignore[arg-type]
    await host_store.write_hellos(connection, hellos, Overcommit(), now)


async def add_server(connection: Connection, server_id: str, **fields: object) -> Server:
    """An active server; `fields` are those of Server."""
    values: dict[str, object] = dict.fromkeys(Server.__struct_fields__)
    values |= dict.fromkeys(("project_id", "user_id", "name", "hostname", "reservation_id", "disk_config"), "x")
    values |= dict.fromkeys(("launch_index", "power_state", "generation", "boot_nonce", "disk_nonce"), 0)
    values |= dict.fromkeys(("created_at", "updated_at"), 1.0)
    values |= dict.fromkeys(("locked", "boot_hard", "config_drive"), False)
    values |= dict.fromkeys(("kept_port_ids", "tags", "interfaces"), ())
    values |= {"access_ip_v4": "", "access_ip_v6": "", "flavor": FLAVOR}
    values |= {"metadata": {}, "timeline": {}, "interface_tags": {}}
    values |= {"id": server_id, "vm_state": "active", "power": Power.RUNNING, **fields}
    server = Server(**values)  # type: ignore[arg-type]
    await server_store.insert_servers(connection, [server])
    return server

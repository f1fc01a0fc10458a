"""The DHCP port of a network: one port of the cloud itself, with one address in each subnet that has DHCP.

It is made, changed and removed in the transaction that changes the subnets, by the path that every port takes, so a
subnet with DHCP never exists without the address that its DHCP server answers from.
"""

from collections.abc import Collection

from muster.base.errors import MusterError
from muster.base.ids import new_uuid
from muster.domain.networks import dhcp_device_id
from muster.domain.port_batch import NetworkPicture
from muster.domain.ports import DHCP_OWNER, NewPort, Port, WantedIp
from muster.services.port_batch import PortBatch
from muster.services.port_work import PortWork
from muster.store import port_batch as picture_store
from muster.store import ports as port_store


class DhcpPorts:
    """Keeps DHCP ports in step with their networks' subnets."""

    def __init__(self, batch: PortBatch) -> None:
        self._batch = batch

    async def settle(self, work: PortWork, network_id: str, *, without: Collection[str] = ()) -> None:
        """Make the network's DHCP port what its subnets need, leaving out those of `without` (about to go).

        Subnets that were made in this transaction may be among them: nobody else knows them yet, so they need no lock.
        Raises Exhausted when a subnet has no address for it. About ten statements.
        """
        pictures = await picture_store.read_pictures(work.connection, [network_id])
        fresh = work.among(pictures)
        network = pictures[network_id]
        needed = [subnet.id for subnet in network.subnets if subnet.enable_dhcp and subnet.id not in without]
        found = await port_store.read_dhcp_ports(work.connection, network_id)
        if not found and needed:
            await self._make(fresh, network, needed)
        elif found and not needed:
            await fresh.remove([port.id for port in found])
        elif found:
            await self._change(fresh, found[0], needed)

    async def _make(self, work: PortWork, network: NetworkPicture, needed: Collection[str]) -> None:
        draft = NewPort(
            id=new_uuid(),
            project_id=network.project_id,
            network_id=network.id,
            fixed_ips=tuple(WantedIp(subnet_id=subnet_id) for subnet_id in needed),
            security_group_ids=(),
            port_security_enabled=False,
            device_owner=DHCP_OWNER,
            device_id=dhcp_device_id(network.id),
        )
        [outcome] = await work.insert([draft])
        if isinstance(outcome, MusterError):
            raise outcome

    async def _change(self, work: PortWork, port: Port, needed: Collection[str]) -> None:
        have = {one.subnet_id for one in port.fixed_ips}
        surplus = [one for one in port.fixed_ips if one.subnet_id not in needed]
        missing = [WantedIp(subnet_id=subnet_id) for subnet_id in needed if subnet_id not in have]
        if not surplus and not missing:
            return
        await work.remove_ips(port.id, surplus)
        if missing:
            await work.add_ips(port.id, port.network_id, port.mac_address, missing)
        await port_store.change(work.connection, port.id, {}, self._batch.clock())

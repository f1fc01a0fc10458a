"""What the hosts that are filled have, as the cloud tells its administrators.

Source: compute API reference, `os-hypervisors` and `os-services`. A user who may not see them says what there is.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from muster.base.errors import Forbidden, Invalid, NotFound
from muster.client.api import Api, Call
from muster.client.bodies import FlavorList, Hypervisor, HypervisorList, ServiceList
from muster.client.cloud import Service
from muster.fit.options import FitOptions
from muster.fit.records import Room


async def room_on(api: Api, options: FitOptions, flavor_id: str) -> Room:
    """What there is, and what a guest takes of it. Cost: at most three requests.

    Raises Invalid where nothing says which hosts are meant, NotFound for a host or zone without hosts.
    """
    flavors = await api.get(Call("GET flavors", "GET", Service.COMPUTE, "/flavors/detail"), FlavorList)
    flavor = next((one for one in flavors.flavors if one.id == flavor_id), None)
    if flavor is None:
        raise NotFound(f"the flavor {flavor_id} is not there any more")
    hosts = await _hosts(api, options)
    told = Room(guest_vcpus=flavor.vcpus, guest_ram_mib=flavor.ram)
    if hosts:
        alone = not any(host.running_vms for host in hosts)
        told = replace(
            told,
            hosts=tuple(sorted(host.hypervisor_hostname for host in hosts)),
            vcpus=sum(host.vcpus for host in hosts),
            ram_mib=sum(host.memory_mb for host in hosts),
            reserved_mib=sum(host.memory_mb_used for host in hosts) if alone else 0,
            others=sum(host.running_vms for host in hosts),
        )
    if options.host_ram_mib is not None:
        told = replace(told, ram_mib=options.host_ram_mib, reserved_mib=0)
    if options.host_vcpus is not None:
        told = replace(told, vcpus=options.host_vcpus)
    return told


async def _hosts(api: Api, options: FitOptions) -> Sequence[Hypervisor]:
    """Those that are filled; none where the cloud does not let this user see them.

    Of a zone those that are down or disabled are none: they get no guests, and their memory is not there.
    """
    try:
        call = Call("GET os-hypervisors", "GET", Service.COMPUTE, "/os-hypervisors/detail")
        found = (await api.get(call, HypervisorList)).hypervisors
        if options.host is not None:
            return _named(found, options.host)
        if options.availability_zone is not None:
            return await _in_zone(api, found, options.availability_zone)
    except Forbidden:
        return ()
    if len(found) > 1:
        names = ", ".join(sorted(host.hypervisor_hostname for host in found)[:10])
        raise Invalid(f"which hosts? Say --host or --availability-zone; there are {len(found)}, such as {names}")
    return found


def _named(found: Sequence[Hypervisor], name: str) -> Sequence[Hypervisor]:
    chosen = [host for host in found if host.is_called(name)]
    if not chosen:
        names = ", ".join(sorted(host.hypervisor_hostname for host in found)[:10]) or "none"
        raise NotFound(f"there is no host {name}; there are: {names}")
    return chosen


async def _in_zone(api: Api, found: Sequence[Hypervisor], zone: str) -> Sequence[Hypervisor]:
    call = Call("GET os-services", "GET", Service.COMPUTE, "/os-services?binary=nova-compute")
    inside = {service.host for service in (await api.get(call, ServiceList)).services if service.zone == zone}
    chosen = [host for host in found if host.service.host in inside or host.hypervisor_hostname in inside]
    if not chosen:
        raise NotFound(f"there are no hosts in the availability zone {zone}")
    if not any(host.takes_servers for host in chosen):
        raise NotFound(f"all hosts of the availability zone {zone} are down or disabled")
    return [host for host in chosen if host.takes_servers]

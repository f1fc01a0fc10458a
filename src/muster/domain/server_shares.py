"""What servers take: of their project's quota, and of their host. Pure."""

from collections import defaultdict
from collections.abc import Sequence

from muster.domain.placement import Demand
from muster.domain.quotas import Ask
from muster.domain.servers import NewServer, Server


def ask_of(members: Sequence[NewServer | Server]) -> Ask:
    """What servers of one user take of their project's quota."""
    flavors = [member.flavor for member in members]
    amounts = {
        "instances": len(flavors),
        "cores": sum(flavor.vcpus for flavor in flavors),
        "ram": sum(flavor.ram_mib for flavor in flavors),
    }
    return Ask(members[0].project_id, amounts, members[0].user_id)


def demand(member: NewServer | Server) -> Demand:
    """What a server takes of its host."""
    flavor = member.flavor
    disk_gib = flavor.disk_gib + flavor.ephemeral_gib
    return Demand(vcpus=flavor.vcpus, ram_mib=flavor.ram_mib, disk_gib=disk_gib, servers=1)


def total_of(members: Sequence[Server]) -> Demand:
    """What servers take of a host together."""
    total = Demand()
    for member in members:
        total = total.plus(demand(member))
    return total


def by_host(members: Sequence[Server]) -> dict[str, list[Server]]:
    """Servers by the host they are on; those without one are left out."""
    found: defaultdict[str, list[Server]] = defaultdict(list)
    for server in members:
        if server.host_id is not None:
            found[server.host_id].append(server)
    return dict(found)

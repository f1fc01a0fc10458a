"""How much room hosts have left at most, for words about servers that found none."""

from sqlalchemy import func, or_, select

from muster.domain.placement import Demand
from muster.domain.placement_refusals import Room
from muster.store.engine import Connection
from muster.store.hosts import hosts, usable


async def read_room(
    connection: Connection, *, seen_after: float, availability_zone: str | None, hostname: str | None
) -> Room:
    """The room on hosts that may be given servers, in a zone or of a name (None: any). One query over these hosts."""
    statement = select(
        func.count(),
        func.max(hosts.c.vcpus_limit - hosts.c.vcpus_used),
        func.max(hosts.c.ram_limit_mib - hosts.c.ram_used_mib),
        func.max(hosts.c.disk_limit_gib - hosts.c.disk_used_gib),
    ).where(*usable(seen_after))
    if availability_zone is not None:
        statement = statement.where(hosts.c.availability_zone == availability_zone)
    if hostname is not None:
        statement = statement.where(or_(hosts.c.hostname == hostname, hosts.c.id == hostname))
    count, vcpus, ram_mib, disk_gib = (await connection.execute(statement)).one()
    return Room(count, Demand(vcpus=vcpus or 0, ram_mib=ram_mib or 0, disk_gib=disk_gib or 0))

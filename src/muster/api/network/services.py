"""The use cases behind the network API, and how they are put together."""

from random import Random

from msgspec import Struct

from muster.base.clock import Clock, system_clock
from muster.domain.context import Context
from muster.domain.networks import NetworkSettings
from muster.locks.protocol import LockService
from muster.services.network_agents import NetworkAgents
from muster.services.network_ip_availability import NetworkIpAvailability
from muster.services.network_quotas import NetworkQuotas
from muster.services.network_tags import Look, NetworkTags, Tagged
from muster.services.networks import Networks
from muster.services.outbox import Outbox
from muster.services.port_batch import PortBatch
from muster.services.port_work import PortSettings
from muster.services.ports import Ports
from muster.services.quotas import Quotas
from muster.services.security_group_rules import SecurityGroupRules
from muster.services.security_groups import SecurityGroups
from muster.services.subnets import Subnets
from muster.store.engine import Database


class Services(Struct, frozen=True, kw_only=True):
    """What the handlers call. `dns_domain` completes the names of ports."""

    networks: Networks
    subnets: Subnets
    ports: Ports
    security_groups: SecurityGroups
    security_group_rules: SecurityGroupRules
    quotas: NetworkQuotas
    tags: NetworkTags
    agents: NetworkAgents
    ip_availability: NetworkIpAvailability
    dns_domain: str


def assemble_batch(  # noqa: PLR0913 - the dependencies of a service, named where it is wired
    database: Database,
    locks: LockService,
    quotas: Quotas,
    changes: Outbox,
    *,
    clock: Clock = system_clock,
    rng: Random,
    settings: PortSettings | None = None,
) -> tuple[PortBatch, SecurityGroups]:
    """What makes ports, and the security groups that it gives to ports without a choice."""
    groups = SecurityGroups(database, clock, quotas, changes)
    batch = PortBatch(
        database=database,
        locks=locks,
        clock=clock,
        rng=rng,
        quotas=quotas,
        changes=changes,
        default_groups=groups,
        settings=settings,
    )
    return batch, groups


def assemble(
    database: Database, batch: PortBatch, groups: SecurityGroups, settings: NetworkSettings | None = None
) -> Services:
    """All services over one database and one port batch, whose `DefaultGroups` are `groups`."""
    settings = settings or NetworkSettings()
    networks, subnets, ports = Networks(database, batch, settings), Subnets(database, batch), Ports(database, batch)
    looks = {
        "networks": _look(networks),
        "subnets": _look(subnets),
        "ports": _look(ports),
        "security-groups": _look(groups),
    }
    return Services(
        networks=networks,
        subnets=subnets,
        ports=ports,
        security_groups=groups,
        security_group_rules=SecurityGroupRules(database, batch.clock, batch.quotas, batch.changes),
        quotas=NetworkQuotas(database, batch.quotas),
        tags=NetworkTags(database, looks, batch.clock),
        agents=NetworkAgents(database, batch.clock),
        ip_availability=NetworkIpAvailability(database),
        dns_domain=settings.dns_domain,
    )


def _look(service: Networks | Subnets | Ports | SecurityGroups) -> Look:
    async def look(context: Context, resource_id: str) -> Tagged:
        found = await service.get(context, resource_id)
        return Tagged(found.project_id, found.tags)

    return look

"""All tables: importing this module makes `metadata` whole, for whoever makes or compares a schema.

Invariant: every module of the store that holds a table is imported here (a test looks).
"""

from muster.store import (
    addresses,
    aggregates,
    application_credentials,
    assignments,
    catalog,
    flavors,
    group_members,
    groups,
    hosts,
    images,
    instance_actions,
    keypairs,
    networks,
    outbox,
    ports,
    projects,
    quotas,
    revocations,
    roles,
    security_groups,
    server_groups,
    servers,
    subnets,
    tags,
    usages,
    users,
)
from muster.store.engine import metadata

MODULES = (
    addresses,
    aggregates,
    application_credentials,
    assignments,
    catalog,
    flavors,
    group_members,
    groups,
    hosts,
    images,
    instance_actions,
    keypairs,
    networks,
    outbox,
    ports,
    projects,
    quotas,
    revocations,
    roles,
    security_groups,
    server_groups,
    servers,
    subnets,
    tags,
    usages,
    users,
)

__all__ = ["MODULES", "metadata"]

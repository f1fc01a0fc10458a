"""All tables: importing this module makes `metadata` whole, for whoever makes or compares a schema.

Invariant: every module of the store that holds a table is imported here (a test looks).
"""

from muster.store import (  # noqa: F401 - for the tables that they hold
    addresses,
    aggregates,
    application_credentials,
    assignments,
    catalog,
    commits,
    flavors,
    group_members,
    groups,
    hosts,
    image_holders,
    images,
    instance_actions,
    keypairs,
    network_members,
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
    token_keys,
    usages,
    user_quotas,
    users,
)
from muster.store.engine import metadata

__all__ = ["metadata"]

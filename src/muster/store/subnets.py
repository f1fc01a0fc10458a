"""Subnets. `fence` is the highest fencing token under which the subnet's addresses were changed."""

from sqlalchemy import ForeignKey, Table

from muster.store.columns import counter, document, flag, identity_column, integer, moment, reference, text
from muster.store.engine import metadata

subnets = Table(
    "subnets",
    metadata,
    identity_column(),
    reference("project_id", nullable=False, index=True),
    reference("network_id", ForeignKey("networks.id"), nullable=False, index=True),
    text("name", default=""),
    text("description", default=""),
    integer("ip_version"),
    text("cidr"),
    text("gateway_ip", nullable=True),
    flag("enable_dhcp", default=True),
    document("dns_nameservers", default=list),
    document("host_routes", default=list),  # [{"destination": cidr, "nexthop": ip}]
    document("allocation_pools", default=list),  # [{"start": ip, "end": ip}]
    document("service_types", default=list),
    text("ipv6_address_mode", nullable=True),
    text("ipv6_ra_mode", nullable=True),
    flag("dns_publish_fixed_ip"),
    counter("fence"),
    counter("revision"),
    moment("created_at"),
    moment("updated_at"),
)

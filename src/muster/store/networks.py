"""Networks."""

from sqlalchemy import Column, Integer, Table, UniqueConstraint

from muster.store.columns import counter, document, flag, identity_column, integer, moment, reference, text
from muster.store.engine import metadata

networks = Table(
    "networks",
    metadata,
    identity_column(),
    reference("project_id", nullable=False, index=True),
    text("name", default=""),
    text("description", default=""),
    flag("admin_state_up", default=True),
    flag("shared"),
    flag("router_external"),
    flag("is_default"),
    flag("port_security_enabled", default=True),
    integer("mtu", default=1450),
    text("network_type", default="vxlan"),
    text("physical_network", nullable=True),
    Column("segment_id", Integer, nullable=True),  # the VXLAN identifier on the wire
    text("dns_domain", default=""),
    document("availability_zone_hints", default=list),
    counter("revision"),  # also the generation that hosts see
    moment("created_at"),
    moment("updated_at"),
    UniqueConstraint("segment_id"),
)

"""Ports, and which security groups they are in. Their addresses are in `store.addresses`."""

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, UniqueConstraint

from muster.store.columns import counter, document, flag, identity_column, moment, reference, text
from muster.store.engine import metadata

ports = Table(
    "ports",
    metadata,
    identity_column(),
    reference("project_id", nullable=False, index=True),
    reference("network_id", ForeignKey("networks.id"), nullable=False),
    text("name", default=""),
    text("description", default=""),
    text("mac_address"),
    flag("admin_state_up", default=True),
    text("status", default="DOWN"),
    text("device_id", default=""),
    text("device_owner", default=""),
    flag("port_security_enabled", default=True),
    document("allowed_address_pairs", default=list),  # [{"ip_address":, "mac_address":}]
    document("extra_dhcp_opts", default=list),
    reference("binding_host_id", nullable=False, default=""),
    text("binding_vnic_type", default="normal"),
    document("binding_profile"),
    text("dns_name", default=""),
    counter("revision"),
    moment("created_at"),
    moment("updated_at"),
    UniqueConstraint("network_id", "mac_address"),
    Index("ix_ports_device_id", "device_id"),
    Index("ix_ports_binding_host_id", "binding_host_id"),
)

port_security_groups = Table(
    "port_security_groups",
    metadata,
    reference("port_id", ForeignKey("ports.id", ondelete="CASCADE"), primary_key=True),
    reference("security_group_id", ForeignKey("security_groups.id"), primary_key=True, index=True),
    Column("position", Integer, nullable=False, default=0),  # the order in which the user named them
)

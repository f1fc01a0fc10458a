"""Servers: what was asked, what should be (power, nonces, generation), and what was last seen."""

from sqlalchemy import Column, ForeignKey, Index, String, Table
from sqlalchemy import text as sql

from muster.store.columns import counter, document, flag, identity_column, integer, moment, reference, text
from muster.store.engine import metadata

servers = Table(
    "servers",
    metadata,
    identity_column(),
    reference("project_id", nullable=False),
    reference("user_id", nullable=False),
    text("name"),
    text("hostname"),
    text("description", nullable=True),
    # The flavor as it was when asked for: a flavor may be deleted or changed later.
    reference("flavor_id", nullable=False),
    document("flavor"),  # name, ephemeral, swap, extra_specs
    integer("vcpus"),
    integer("ram_mib"),
    integer("disk_gib"),
    reference("image_id", nullable=True, index=True),
    document("image", default=None),  # ImageSpec as a dict, or None
    text("key_name", nullable=True),
    text("public_key", nullable=True),
    text("user_data", nullable=True),
    document("metadata"),
    flag("config_drive"),
    text("availability_zone", nullable=True),  # as asked; the host's zone once placed
    text("disk_config", default="MANUAL"),
    text("access_ip_v4", default=""),
    text("access_ip_v6", default=""),
    reference("server_group_id", nullable=True, index=True),
    text("reservation_id"),
    integer("launch_index", default=0),
    flag("locked"),
    text("locked_reason", nullable=True),
    reference("host_id", ForeignKey("hosts.id"), nullable=True),
    # Nova's states; `domain.servers` derives the API's status from them.
    text("vm_state"),
    text("task_state", nullable=True),
    integer("power_state", default=0),
    # What should be: see ServerSpec.
    text("power"),
    counter("generation"),
    integer("boot_nonce", default=0),
    flag("boot_hard"),
    integer("disk_nonce", default=0),
    integer("fault_code", nullable=True),
    text("fault_message", nullable=True),
    text("fault_details", nullable=True),
    moment("fault_at", nullable=True),
    document("timeline"),
    moment("created_at"),
    moment("updated_at"),
    moment("launched_at", nullable=True),
    moment("terminated_at", nullable=True),
    moment("deleted_at", nullable=True),
    # A host's resync and a project's list cost what they return, not what exists.
    Index(
        "ix_servers_host_live",
        "host_id",
        sqlite_where=sql("deleted_at IS NULL"),
        postgresql_where=sql("deleted_at IS NULL"),
    ),
    Index("ix_servers_project_created", "project_id", "created_at", "id"),
    Index("ix_servers_created", "created_at", "id"),
    Index("ix_servers_updated", "updated_at"),
    Index("ix_servers_project_name", "project_id", "name"),
)

server_tags = Table(
    "server_tags",
    metadata,
    reference("server_id", ForeignKey("servers.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(60), primary_key=True, index=True),
)

"""Flavors, and which projects may use those that are not public."""

from sqlalchemy import Column, Float, ForeignKey, String, Table

from muster.store.columns import document, flag, identity_column, integer, moment, reference, text
from muster.store.engine import metadata

flavors = Table(
    "flavors",
    metadata,
    identity_column(),
    Column("name", String(255), nullable=False, unique=True),
    text("description", nullable=True),
    integer("vcpus"),
    integer("ram_mib"),
    integer("disk_gib", default=0),
    integer("ephemeral_gib", default=0),
    integer("swap_mib", default=0),
    Column("rxtx_factor", Float(53), nullable=False, default=1.0),
    flag("is_public", default=True),
    flag("disabled"),
    document("extra_specs"),
    moment("created_at"),
    moment("updated_at"),
)

flavor_access = Table(
    "flavor_access",
    metadata,
    reference("flavor_id", ForeignKey("flavors.id", ondelete="CASCADE"), primary_key=True),
    reference("project_id", primary_key=True),
)

"""Images, the projects that they are shared with, and their tags. The files are in the image folder."""

from sqlalchemy import BigInteger, Column, ForeignKey, String, Table

from muster.store.columns import document, flag, identity_column, integer, moment, reference, text
from muster.store.engine import metadata

images = Table(
    "images",
    metadata,
    identity_column(),
    reference("owner", nullable=False, index=True),
    text("name", nullable=True),
    text("status"),  # queued, saving, active, deactivated, killed, deleted
    text("visibility"),  # public, private, shared, community
    text("disk_format", nullable=True),
    text("container_format", nullable=True),
    Column("size", BigInteger, nullable=True),
    Column("virtual_size", BigInteger, nullable=True),
    text("checksum", nullable=True),  # MD5, as Glance shows it
    text("os_hash_algo", nullable=True),
    text("os_hash_value", nullable=True),  # SHA-512
    integer("min_disk", default=0),
    integer("min_ram", default=0),
    flag("protected"),
    flag("os_hidden"),
    document("properties"),
    moment("created_at"),
    moment("updated_at"),
)

image_members = Table(
    "image_members",
    metadata,
    reference("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    reference("member_id", primary_key=True, index=True),
    text("status", default="pending"),
    moment("created_at"),
    moment("updated_at"),
)

image_tags = Table(
    "image_tags",
    metadata,
    reference("image_id", ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(255), primary_key=True, index=True),
)

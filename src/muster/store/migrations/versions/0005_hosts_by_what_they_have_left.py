"""Hosts by what they have left."""

import sqlalchemy as sa
from alembic import op

revision = "3ab4338a0213"
down_revision = "4acb69130c11"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring a database from the revision before to this one."""
    op.create_index(
        "ix_hosts_firewall",
        "hosts",
        ["id"],
        unique=False,
        sqlite_where=sa.text("firewall = 1"),
        postgresql_where=sa.text("firewall"),
    )
    op.create_index(
        "ix_hosts_left",
        "hosts",
        [sa.text("(ram_limit_mib - ram_used_mib) DESC"), sa.text("(vcpus_limit - vcpus_used) DESC"), sa.text("id")],
        unique=False,
    )

"""Locks of servers and tags of their interfaces."""

import sqlalchemy as sa
from alembic import op

revision = "6bab98717fc2"
down_revision = "2ba1f2abd0c9"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring a database from the revision before to this one."""
    with op.batch_alter_table("servers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("locked_by", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("interface_tags", sa.JSON(), nullable=True))
    servers = sa.table("servers", sa.column("interface_tags", sa.JSON()))
    op.execute(servers.update().values(interface_tags={}))
    with op.batch_alter_table("servers", schema=None) as batch_op:
        batch_op.alter_column("interface_tags", existing_type=sa.JSON(), nullable=False)

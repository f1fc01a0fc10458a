"""Hosts as members of networks."""

import sqlalchemy as sa
from alembic import op

revision = "4acb69130c11"
down_revision = "b0299f1b0917"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring a database from the revision before to this one."""
    op.create_table(
        "network_member_changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("network_id", sa.String(length=64), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("ip_address", sa.Text(), nullable=False),
        sa.Column("joined", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(
            ["network_id"], ["networks.id"], name=op.f("fk_network_member_changes_network_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_network_member_changes")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("network_member_changes", schema=None) as batch_op:
        batch_op.create_index("ix_network_member_changes_created_at", ["created_at"], unique=False)
        batch_op.create_index("ix_network_member_changes_generation", ["network_id", "generation"], unique=False)

    op.create_table(
        "network_members",
        sa.Column("network_id", sa.String(length=64), nullable=False),
        sa.Column("host_id", sa.String(length=64), nullable=False),
        sa.Column("ip_address", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["network_id"], ["networks.id"], name=op.f("fk_network_members_network_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("network_id", "host_id", name=op.f("pk_network_members")),
    )
    with op.batch_alter_table("network_members", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_network_members_host_id"), ["host_id"], unique=False)

    with op.batch_alter_table("networks", schema=None) as batch_op:
        batch_op.add_column(sa.Column("member_generation", sa.BigInteger(), server_default="0", nullable=False))

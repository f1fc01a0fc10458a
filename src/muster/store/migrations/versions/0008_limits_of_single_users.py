"""limits of single users."""

import sqlalchemy as sa
from alembic import op

revision = "c3dc26052d68"
down_revision = "7bb252a13dd2"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring a database from the revision before to this one."""
    op.create_table(
        "user_quotas",
        sa.Column("project_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        sa.Column("resource", sa.String(length=64), nullable=False),
        sa.Column("hard_limit", sa.BigInteger(), nullable=False),
        sa.Column("in_use", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "user_id", "resource", name=op.f("pk_user_quotas")),
    )
    with op.batch_alter_table("usages", schema=None) as batch_op:
        batch_op.add_column(sa.Column("by_user", sa.Boolean(), server_default=sa.text("false"), nullable=False))

"""Machines that have images."""

import sqlalchemy as sa
from alembic import op

revision = "7bb252a13dd2"
down_revision = "bee18e555933"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring a database from the revision before to this one."""
    op.create_table(
        "image_holders",
        sa.Column("image_id", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(
            ["image_id"], ["images.id"], name=op.f("fk_image_holders_image_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("image_id", "holder", name=op.f("pk_image_holders")),
    )
    with op.batch_alter_table("image_holders", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_image_holders_holder"), ["holder"], unique=False)

    with op.batch_alter_table("images", schema=None) as batch_op:
        batch_op.add_column(sa.Column("receiver", sa.String(length=512), nullable=True))

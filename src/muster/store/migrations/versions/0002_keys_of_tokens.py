"""keys of tokens."""

import sqlalchemy as sa
from alembic import op

revision = "aba8ee5644dd"
down_revision = "12ec5c7bebdb"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring a database from the revision before to this one."""
    op.create_table(
        "token_keys",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_token_keys")),
    )

"""files that users inject."""

import sqlalchemy as sa
from alembic import op

revision = "4ec8f9fe4e0e"
down_revision = "c3dc26052d68"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring a database from the revision before to this one."""
    with op.batch_alter_table("servers", schema=None) as batch_op:
        batch_op.add_column(sa.Column("injected_files", sa.JSON(none_as_null=True), nullable=True))

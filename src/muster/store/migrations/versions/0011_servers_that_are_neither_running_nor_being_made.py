"""servers that are neither running nor being made."""

import sqlalchemy as sa
from alembic import op

revision = "c1d34a8f60b7"
down_revision = "5d0c1f8e7a24"
branch_labels = None
depends_on = None

_THEY = "deleted_at IS NULL AND vm_state NOT IN ('active', 'building')"


def upgrade() -> None:
    """Bring a database from the revision before to this one."""
    op.create_index(
        "ix_servers_unusual",
        "servers",
        ["vm_state", "project_id", "deleted_at"],
        unique=False,
        sqlite_where=sa.text(_THEY),
        postgresql_where=sa.text(_THEY),
    )

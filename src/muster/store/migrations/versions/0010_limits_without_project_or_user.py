"""limits without project or user: those of deleted ones stayed, until they went with them."""

from alembic import op

revision = "5d0c1f8e7a24"
down_revision = "4ec8f9fe4e0e"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring a database from the revision before to this one."""
    op.execute("DELETE FROM quotas WHERE project_id <> '*' AND project_id NOT IN (SELECT id FROM projects)")
    op.execute("DELETE FROM user_quotas WHERE project_id NOT IN (SELECT id FROM projects)")
    op.execute("DELETE FROM user_quotas WHERE user_id NOT IN (SELECT id FROM users)")

"""room for new versions of rows (see CHANGED_ONCE in store.columns): pages that are filled from now on."""

from alembic import op

revision = "b84f1c0d92e3"
down_revision = "c1d34a8f60b7"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring a database from the revision before to this one. SQLite changes rows in their place."""
    if op.get_context().dialect.name != "sqlite":
        for table in ("instance_actions", "ports"):
            op.execute(f"ALTER TABLE {table} SET (fillfactor = 45)")

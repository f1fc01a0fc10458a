"""${message}."""

import sqlalchemy as sa
from alembic import op
${imports + "\n" if imports else ""}revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring a database from the revision before to this one."""
    ${upgrades if upgrades else "pass"}

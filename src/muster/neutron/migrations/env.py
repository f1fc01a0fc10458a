"""Run by `neutron-db-manage`, which finds it by its entry point. The version table is the driver's own."""

from alembic import context
from neutron.db.migration.connection import DBConnection

from muster.neutron.tables import metadata

VERSION_TABLE = "muster_ipam_alembic_version"


def run_offline() -> None:
    """Print the SQL instead of running it."""
    config = context.config.neutron_config  # type: ignore[attr-defined]
    target = {"url": config.database.connection} if config.database.connection else {}
    if not target:
        target = {"dialect_name": config.database.engine}
    context.configure(**target, version_table=VERSION_TABLE, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()


def run_online() -> None:
    config = context.config
    url = config.neutron_config.database.connection  # type: ignore[attr-defined]
    with DBConnection(url, config.attributes.get("connection")) as connection:
        context.configure(connection=connection, version_table=VERSION_TABLE, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()


if context.is_offline_mode():
    run_offline()
else:
    run_online()

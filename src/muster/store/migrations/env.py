"""What Alembic runs, on the connection and in the transaction that `store.migrations.running` hands it."""

from alembic import context

from muster.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    compare_type=True,
    compare_server_default=True,
    # SQLite alters a table by copying it; the batch form does so there and is a plain ALTER elsewhere.
    render_as_batch=context.config.attributes.get("batch", False),
)
with context.begin_transaction():
    context.run_migrations()

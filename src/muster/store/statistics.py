"""What PostgreSQL's planner knows of tables that grow fast.

Without statistics it takes a project for a handful of rows, reads all servers of it and sorts them, where the first
page stands at the front of an index. Its own daemon looks once a minute (`autovacuum_naptime`), after which a cloud may
have tens of thousands of servers more. SQLite goes by the indexes there are, and needs nothing.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.store.metadata import metadata

# Of a smaller table nothing is gained.
_ROWS = 1_000
# Only growth counts: heartbeats change every host's row every few seconds, and leave it as it was to a planner.
_GROWN = text("""
    SELECT stat.relname FROM pg_stat_user_tables AS stat JOIN pg_class AS class ON class.oid = stat.relid
    WHERE stat.schemaname = current_schema() AND stat.n_live_tup >= :rows
      AND (coalesce(stat.last_analyze, stat.last_autoanalyze) IS NULL OR stat.n_live_tup >= 1.5 * class.reltuples)
""")


async def read_grown(connection: AsyncConnection) -> list[str]:
    """The tables that have at least 1,000 rows, and half as many again as when they were last looked at. One query.

    Of what was committed in the last second or so the database has not counted all. None on SQLite.
    """
    if connection.dialect.name == "sqlite":
        return []
    found = (await connection.execute(_GROWN, {"rows": _ROWS})).scalars()
    return sorted(metadata.tables.keys() & set(found))


async def analyze(connection: AsyncConnection, tables: list[str]) -> None:
    """Look at a sample of these tables; at none that the database's own daemon is at. One statement, below a second."""
    names = ", ".join(connection.dialect.identifier_preparer.quote(table) for table in tables)
    await connection.execute(text(f"ANALYZE (SKIP_LOCKED) {names}"))

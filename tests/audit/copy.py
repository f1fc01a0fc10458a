"""A PostgreSQL database copied into an SQLite file, so that the ledger's audit reads it as it reads a cloud's own."""

from pathlib import Path

from sqlalchemy import create_engine, select

from muster.store.engine import Database
from muster.store.tables import metadata


async def copied(database: Database, path: Path) -> Path:
    """Write what is in the database now into a new file at `path`. One query per table, one picture of all."""
    async with database.read() as connection:
        await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        found = {
            table: [dict(row) for row in (await connection.execute(select(table))).mappings()]
            for table in metadata.sorted_tables
        }
    path.unlink(missing_ok=True)
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as file:
        metadata.create_all(file)
        for table, rows in found.items():
            if rows:
                file.execute(table.insert(), rows)
    engine.dispose()
    return path

"""Reads a cluster's PostgreSQL by plain SQL: how far it is, and a copy of it for the ledger's audit."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg

_CONNECT_S = 30.0
_TABLES = (
    "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
    "ORDER BY table_name, ordinal_position"
)
_PROGRESS = (
    "SELECT count(*) FILTER (WHERE vm_state = 'active' AND task_state IS NULL) AS active, "
    "count(*) FILTER (WHERE task_state IS NOT NULL) AS busy, count(*) AS there, "
    "(SELECT count(*) FROM outbox) AS notes FROM servers WHERE deleted_at IS NULL"
)


async def progress(url: str) -> dict[str, int] | None:
    """How many servers are there, active and busy, and how many notes wait for hosts. None: the database is away."""
    try:
        connection = await asyncpg.connect(url, timeout=_CONNECT_S)
        try:
            return dict(await connection.fetchrow(_PROGRESS, timeout=_CONNECT_S))
        finally:
            await connection.close(timeout=_CONNECT_S)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None


async def copied(url: str, path: Path) -> Path:
    """All that is in the database now, as one picture, in a new SQLite file: columns by name, without constraints."""
    connection = await asyncpg.connect(url, timeout=_CONNECT_S)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            columns: dict[str, list[str]] = {}
            for table, column in await connection.fetch(_TABLES):
                columns.setdefault(table, []).append(column)
            rows = {table: await connection.fetch(f'SELECT * FROM "{table}"') for table in columns}
    finally:
        await connection.close()
    path.unlink(missing_ok=True)
    await asyncio.to_thread(_write, path, columns, rows)
    return path


def _write(path: Path, columns: dict[str, list[str]], rows: dict[str, list[Any]]) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        for table, names in columns.items():
            file.execute(f'CREATE TABLE "{table}" ({", ".join(names)})')
            marks = ", ".join("?" * len(names))
            file.executemany(f'INSERT INTO "{table}" VALUES ({marks})', [_plain(row) for row in rows[table]])
            for name in names:
                if name == "id" or name.endswith("_id"):  # or the audit of 10,000 servers takes minutes
                    file.execute(f'CREATE INDEX "{table}.{name}" ON "{table}" ("{name}")')


def _plain(row: Any) -> list[object]:
    return [value if isinstance(value, int | float | str | bytes | None) else str(value) for value in row]

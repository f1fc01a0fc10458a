"""Machines over a fresh database: PostgreSQL, which is all that they have in common."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from muster.store.engine import Database
from tests.databases import tables_template
from tests.engines.postgres import Postgres

from .machines import Machines


@pytest.fixture
async def database(postgres: Postgres) -> AsyncIterator[Database]:
    opened = Database(await postgres.create_database(await tables_template(postgres)))
    try:
        yield opened
    finally:
        await asyncio.shield(opened.close())
        await postgres.let_go(opened.url)


@pytest.fixture
async def machines(database: Database, tmp_path: Path) -> AsyncIterator[Machines]:
    async with AsyncExitStack() as stack:
        yield Machines(database, tmp_path, stack)

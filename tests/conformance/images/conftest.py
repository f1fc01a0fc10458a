"""Machines over a fresh database, SQLite and PostgreSQL in turn."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from muster.store.engine import Database

from .machines import Machines


@pytest.fixture
async def machines(database: Database, tmp_path: Path) -> AsyncIterator[Machines]:
    async with AsyncExitStack() as stack:
        yield Machines(database, tmp_path, stack)

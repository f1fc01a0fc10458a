"""Fixtures of the identity API's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .world import Admin, World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    one = World(tmp_path)
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
async def admin(world: World) -> Admin:
    return Admin(world, await world.admin_token())

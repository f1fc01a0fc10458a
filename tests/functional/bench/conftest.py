"""A fake cloud, and options that lead to it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from muster.bench.options import Phase, ServersOptions

from .fake_cloud import Behaviour, FakeCloud, clouds_yaml, fake_cloud

CREATE_AND_DELETE = (Phase.CREATE, Phase.DELETE)


class Lab:
    """Starts a cloud that behaves as told and writes the clouds.yaml for it."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.directory = directory
        self._stack = stack

    async def cloud(self, **behaviour: Any) -> FakeCloud:
        cloud = await self._stack.enter_async_context(fake_cloud(Behaviour(**behaviour)))
        (self.directory / "clouds.yaml").write_text(clouds_yaml(cloud))
        return cloud

    def options(self, **changes: Any) -> ServersOptions:
        file = str(self.directory / "clouds.yaml")
        known: dict[str, Any] = {
            "cloud": "fake",
            "config_files": (file,),
            "phases": CREATE_AND_DELETE,
            "timeout_s": 200,
        }
        return ServersOptions(**{**known, **changes})


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    for name in ("OS_CLOUD", "OS_CLIENT_CONFIG_FILE", "OS_AUTH_URL"):
        monkeypatch.delenv(name, raising=False)
    async with AsyncExitStack() as stack:
        yield Lab(tmp_path, stack)

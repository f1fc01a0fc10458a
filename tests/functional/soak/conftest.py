"""A whole cloud with simulated hosts in this process, on a socket, that can be told to be away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from muster.cli.cloud import CloudSettings, running
from muster.cli.secrets import write_clouds_yaml
from muster.client.api import Api, Tally
from muster.client.cloud import connect
from muster.client.http import HttpClient
from muster.host.hypervisor.sim import SimSettings
from muster.soak.clean import runs
from muster.soak.scenario import Scenario
from tests.serving import serving

PASSWORD = "a-password-for-tests"


class Bed:
    """The cloud's application behind a gate, and how clients reach it."""

    def __init__(self, application: ASGIApp, folder: Path) -> None:
        self._application = application
        self.clouds_yaml = folder / "clouds.yaml"
        self.data = folder / "soak"
        self.is_away = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        away = PlainTextResponse("away", 503)
        await (away if self.is_away else self._application)(scope, receive, send)

    def scenario(self, **changes: object) -> Scenario:
        """Users in a hurry."""
        known: dict[str, object] = {
            "cloud": "muster", "config_files": (str(self.clouds_yaml),), "image": "guest", "flavor": "m1.tiny",
            "users": 4, "rate_per_min": 0.0, "think_s": (0.0, 0.05), "timeout_s": 20.0, "duration_s": 2.5, "seed": 1,
        }  # fmt: skip
        return Scenario(**{**known, **changes})  # type: ignore[arg-type]

    @asynccontextmanager
    async def api(self) -> AsyncIterator[Api]:
        """A user's way to the cloud."""
        cloud = await connect("muster", (str(self.clouds_yaml),), lambda: 0.0)
        async with HttpClient(cloud.tls) as http:
            yield Api(http, cloud, Tally())
        cloud.tokens.close()

    async def left(self) -> set[str]:
        """The soaks of which something is in the cloud."""
        async with self.api() as api:
            return await runs(api)


@pytest.fixture
async def bed(tmp_path: Path) -> AsyncIterator[Bed]:
    settings = CloudSettings(folder=tmp_path, sim_hosts=4, sim=SimSettings(boot_s=0.05, start_fails=0.4))
    async with running(settings, PASSWORD) as cloud:
        made = Bed(cloud.application, tmp_path)
        async with serving(made) as base_url:
            write_clouds_yaml(tmp_path, base_url, PASSWORD)
            yield made

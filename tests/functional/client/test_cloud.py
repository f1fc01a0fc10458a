"""clouds.yaml as people break it, a keystone that says nothing, and tokens that are refused."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from keystoneauth1.exceptions import ConnectFailure
from keystoneauth1.session import Session

from muster.base.errors import Invalid, Transient
from muster.client import cloud
from muster.client.cloud import Tokens, connect
from tests.serving import ended

# openstacksdk warns about its own optional InfluxDB support whenever it reads a configuration.
pytestmark = pytest.mark.filterwarnings("ignore:Support for InfluxDB requires")

USER = "username: u, password: p, project_name: p, user_domain_id: default, project_domain_id: default"


@pytest.fixture(autouse=True)
def _no_cloud_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OS_CLOUD", "OS_CLIENT_CONFIG_FILE", "OS_AUTH_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("clouds: {mine: [", "is it YAML"),
        ("clouds: {other: {}}", "Cloud mine was not found"),
        ("- clouds", "clouds.yaml"),
        ("clouds: [mine]", "clouds.yaml"),
        ("clouds: {mine: text}", "clouds.yaml"),
        ("clouds: {mine: {auth: text}}", "clouds.yaml"),
        ("clouds: {mine: {auth: {username: u}}}", "auth_url"),
        ("clouds: {mine: {auth_type: magic, auth: {auth_url: 'http://127.0.0.1:1'}}}", "magic"),
        (f"clouds: {{mine: {{api_timeout: soon, auth: {{auth_url: 'http://127.0.0.1:1/v3', {USER}}}}}}}", "soon"),
        (f"clouds: {{mine: {{cacert: /nowhere, auth: {{auth_url: 'https://127.0.0.1:1/v3', {USER}}}}}}}", "/nowhere"),
    ],
)
async def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, said: str) -> None:
    """Half of these were errors of the loader's own, with its stack."""
    file = tmp_path / "clouds.yaml"
    file.write_text(text)
    with pytest.raises(Invalid, match=said):
        await connect("mine", (str(file),), time.monotonic)


async def test_a_keystone_that_says_nothing_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud, "KEYSTONE_S", 0.3)
    writers: set[asyncio.StreamWriter] = set()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        await reader.read()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v3"
        file = tmp_path / "clouds.yaml"
        file.write_text(f"clouds: {{mine: {{auth: {{auth_url: '{url}', {USER}}}}}}}")
        async with asyncio.timeout(300):
            with pytest.raises(Transient):
                await connect("mine", (str(file),), time.monotonic)
    finally:
        await ended(server, writers)


async def test_a_keystone_that_is_away_is_waited_for_once_by_all_who_wait() -> None:
    """Each waited for its time-out in turn: a hundred requests for a hundred minutes."""
    asked: list[None] = []

    def away() -> str:
        asked.append(None)
        time.sleep(0.05)
        raise ConnectFailure("no answer")

    tokens = Tokens(cast(Session, SimpleNamespace(get_token=away, invalidate=lambda: None)), "first", time.monotonic)
    tokens.refused("first")
    found = await asyncio.gather(*(tokens.current() for _ in range(20)), return_exceptions=True)
    assert {type(one) for one in found} == {Transient}
    assert len(asked) == 1
    with pytest.raises(Transient):
        await tokens.current()
    assert len(asked) == 2


async def test_a_refused_token_is_renewed_once_for_all_who_sent_it() -> None:
    given = iter(["second", "third"])
    invalidated: list[None] = []
    session: Any = SimpleNamespace(get_token=lambda: next(given), invalidate=lambda: invalidated.append(None))
    tokens = Tokens(cast(Session, session), "first", lambda: 0.0)
    tokens.refused("first")
    assert await tokens.current() == "second"
    tokens.refused("first")  # the answer to a request of before
    assert await tokens.current() == "second"
    assert len(invalidated) == 1

"""`muster up`'s options on simulated guests' failures and on placement, seen through the API."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from killable_cloud import KillableCloud, killable_cloud

from muster.cli.up import up

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

UNTIL_S = 300.0  # for hangs only
SERVERS = "/compute/v2.1/servers"


async def _create(cloud: KillableCloud, count: int) -> None:
    image = await cloud.ask("GET", "/image/v2/images?name=guest")
    networks = await cloud.ask("GET", "/network/v2.0/networks?name=default")
    server = {
        "name": "vm",
        "imageRef": image.body["images"][0]["id"],
        "flavorRef": "1",
        "networks": [{"uuid": networks.body["networks"][0]["id"]}],
        "min_count": count,
    }
    answer = await cloud.ask("POST", SERVERS, {"server": server})
    assert answer.status == 202, answer


async def _all(cloud: KillableCloud, status: str) -> list[dict[str, Any]]:
    """The servers, once all have this status."""
    end = time.monotonic() + UNTIL_S
    while True:
        servers = await cloud.servers()
        if {server["status"] for server in servers} == {status}:
            return servers
        assert time.monotonic() < end, Counter(server["status"] for server in servers)
        await asyncio.sleep(0.1)


async def test_guests_that_never_start_are_in_error_and_packed_on_one_host(tmp_path: Path) -> None:
    options = ("--sim-hosts", "4", "--placement", "pack", "--sim-start-fails", "1")
    async with killable_cloud(tmp_path / "fails", *options) as cloud:
        await _create(cloud, 10)
        servers = await _all(cloud, "ERROR")
    assert len(servers) == 10
    assert {server["fault"]["message"] for server in servers} == {"The simulated guest did not start"}
    assert len({server["OS-EXT-SRV-ATTR:host"] for server in servers}) == 1


async def test_guests_that_die_are_shut_off_and_spread_over_all_hosts(tmp_path: Path) -> None:
    async with killable_cloud(tmp_path / "dies", "--sim-hosts", "4", "--sim-dies", "1") as cloud:
        await _create(cloud, 8)
        servers = await _all(cloud, "SHUTOFF")
    assert set(Counter(server["OS-EXT-SRV-ATTR:host"] for server in servers).values()) == {2}


def test_what_is_no_probability_and_no_strategy_is_refused() -> None:
    for option, value in (("--sim-start-fails", "1.1"), ("--sim-dies", "-0.1"), ("--placement", "heap")):
        refused = CliRunner().invoke(up, [option, value])
        assert refused.exit_code == 2
        assert f"Invalid value for '{option}'" in refused.output

"""Whoever operates a cloud reads its metrics on the cloud's own machine, without a token; nobody else does."""

import re

import httpx
import pytest

from muster.api.http.mounts import Mounts

from .world import World

SEEN = re.compile(r'^muster_requests_total\{api="identity",method="GET",status="401"\} (\S+)$', re.MULTILINE)


async def _seen(world: World) -> float:
    answer = await world.http.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    found = SEEN.search(answer.text)
    return float(found[1]) if found else 0.0


async def test_a_counter_moves(world: World) -> None:
    before = await _seen(world)
    for _ in range(3):
        assert (await world.call("GET", "/users")).status_code == 401
    assert await _seen(world) == before + 3


LOCAL = ("127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1")
ELSEWHERE = ("10.0.0.5", "::ffff:10.0.0.5", "fe80::1%eth0", "0.0.0.0", "localhost")


@pytest.mark.parametrize("address", [*LOCAL, *ELSEWHERE])
async def test_only_callers_on_the_loopback_interface_are_told(world: World, address: str) -> None:
    transport = httpx.ASGITransport(app=Mounts({"/identity": world.application}), client=(address, 40_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://cloud") as http:
        answer = await http.get("/metrics")
        assert answer.status_code == (200 if address in LOCAL else 404)
        assert ("muster_requests" in answer.text) == (address in LOCAL)


async def test_metrics_are_for_reading(world: World) -> None:
    answer = await world.http.post("/metrics")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert (await world.http.get("/metrics/x")).status_code == 404

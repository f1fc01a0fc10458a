"""Health: alive without a look at anything, ready only while every engine answers; told without secrets, cheaply."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from structlog.testing import capture_logs

from muster.api.http.mounts import Mounts
from muster.base.errors import Transient
from muster.services.readiness import Readiness


class Engine:
    """An engine that works, fails or hangs; counts looks."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.hangs = False
        self.looks = 0

    async def check(self) -> None:
        self.looks += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


@asynccontextmanager
async def asking(judge: Readiness | None, *, with_metrics: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=Mounts({}, judge, with_metrics=with_metrics))
    async with httpx.AsyncClient(transport=transport, base_url="http://cloud") as http:
        yield http


async def test_alive_is_told_whatever_the_engines_do() -> None:
    engine = Engine()
    engine.error = Transient("away")
    async with asking(Readiness({"database": engine.check})) as http:
        answer = await http.get("/healthcheck")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert engine.looks == 0
        assert (await http.post("/healthcheck")).status_code == 405
        assert (await http.head("/healthcheck")).content == b""


async def test_ready_while_every_engine_answers() -> None:
    one, other = Engine(), Engine()
    readiness = Readiness({"database": one.check, "bus": other.check})
    async with asking(readiness) as http:
        answer = await http.get("/healthcheck/ready")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        other.error = Transient("amqp://muster:secret@mq does not answer")
        readiness._looked_at = float("-inf")
        answer = await http.get("/healthcheck/ready")
        assert answer.status_code == 503
        assert answer.json() == {"status": "not ready", "reasons": {"bus": "does not answer"}}
        other.error = None
        readiness._looked_at = float("-inf")
        assert (await http.head("/healthcheck/ready")).status_code == 200


async def test_the_log_tells_once_that_an_engine_is_away_and_once_that_it_is_back() -> None:
    """Load balancers ask every other second, for hours."""
    engine = Engine()
    readiness = Readiness({"locks": engine.check})
    with capture_logs() as logs:
        for error in (Transient("away"), Transient("away"), None, None):
            engine.error = error
            readiness._looked_at = float("-inf")
            await readiness.faults()
    assert [(line["action"], line["engine"], line["log_level"]) for line in logs] == [
        ("readiness.fault", "locks", "warning"),
        ("readiness.back", "locks", "warning"),
    ]


async def test_an_engine_that_hangs_is_told_in_time() -> None:
    engine = Engine()
    engine.hangs = True
    async with asking(Readiness({"locks": engine.check})) as http, asyncio.timeout(300):
        answer = await http.get("/healthcheck/ready")
        assert answer.json()["reasons"] == {"locks": "no answer within 3 s"}


async def test_many_that_ask_at_once_share_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muster.services.readiness._GOOD_FOR_S", 600.0)
    engine = Engine()
    async with asking(Readiness({"database": engine.check})) as http:
        answers = await asyncio.gather(*(http.get("/healthcheck/ready") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert engine.looks == 1


async def test_no_metrics_where_nobody_could_say_whose_they_are() -> None:
    async with asking(None) as http:
        assert (await http.get("/metrics")).status_code == 200
    async with asking(None, with_metrics=False) as http:
        assert (await http.get("/metrics")).status_code == 404

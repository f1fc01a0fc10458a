"""The metrics' port of a worker that replaces another one, which still has it."""

import asyncio
import socket

import httpx
import pytest
from structlog.testing import capture_logs

from muster.cli import metrics

HANG_S = 60.0


@pytest.mark.parametrize("told_at", [1_000_000, 3])
async def test_a_port_that_is_taken_is_waited_for_and_said_only_when_it_stays_so(
    told_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reload warned of its own old workers."""
    monkeypatch.setattr(metrics, "_AGAIN_S", 0.01)
    monkeypatch.setattr(metrics, "_TOLD_AT", told_at)
    with socket.create_server(("127.0.0.1", 0)) as other, capture_logs() as logs:
        port = other.getsockname()[1]
        async with metrics.metrics_served("127.0.0.1", port), asyncio.timeout(HANG_S):
            await asyncio.sleep(0.1)  # some tries in vain
            while told_at == 3 and not logs:
                await asyncio.sleep(0.01)
            other.close()
            async with httpx.AsyncClient() as http:
                while True:
                    try:
                        answer = await http.get(f"http://127.0.0.1:{port}/metrics")
                        break
                    except httpx.TransportError:
                        await asyncio.sleep(0.01)
    assert answer.status_code == 200
    assert [line["action"] for line in logs] == (["metrics.delayed"] if told_at == 3 else [])

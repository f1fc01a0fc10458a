"""Hosts ask what became of guests that nobody told them of."""

from pathlib import Path

from structlog.testing import capture_logs

from muster.domain.messages import Fates, Strangers

from .loop import Ear, a_loop


async def test_each_guest_that_the_database_does_not_know_is_logged_once(tmp_path: Path) -> None:
    """However often its host asks after it."""
    async with a_loop(tmp_path) as loop:
        host = Ear(loop, "a", firewall=False)
        await host.say_hello()
        server = await loop.create()

        async def logged(*server_ids: str) -> list[list[str]]:
            with capture_logs() as lines:
                await loop.reports.take([Strangers(host_id=host.id, server_ids=server_ids)])
            [fates] = [message for message in await host.read() if isinstance(message, Fates)]
            assert set(fates.unknown) == set(server_ids) - {server.id}
            return [line["servers"] for line in lines if line["action"] == "reports.unknown"]

        assert await logged("x", "y", server.id) == [["x", "y"]]
        assert await logged("x", "y", server.id) == []
        assert await logged("z", "x") == [["z"]]

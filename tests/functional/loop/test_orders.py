"""What was asked of servers and is committed is never answered as a failure, whatever comes after."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from muster.base.errors import Transient
from muster.domain.messages import Report
from muster.domain.reports import GuestState, ServerReport
from muster.domain.servers import Verb

from .loop import Ear, a_loop


async def test_an_end_that_fails_fails_nobodys_order_and_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_loop(tmp_path) as loop:
        host = Ear(loop, "a", firewall=False)
        await host.say_hello()
        runs, nowhere = await loop.create("a"), await loop.create("none")
        report = ServerReport(server_id=runs.id, generation=runs.generation, state=GuestState.RUNNING)
        await loop.reports.take([Report(host_id=host.id, from_seq=0, to_seq=1, servers=(report,))])
        orders = loop.compute.orders

        async def fails(_server_ids: Sequence[str]) -> None:
            raise Transient("the database is away")

        with monkeypatch.context() as patch:
            patch.setattr(orders, "_finish_once", fails)
            await asyncio.gather(loop.ask(nowhere.id, Verb.DELETE), loop.ask(runs.id, Verb.STOP))
        tasks = {server.id: server.task_state for server in await loop.servers()}
        assert tasks == {runs.id: "powering-off", nowhere.id: "deleting"}
        await orders.finish_left()
        assert [server.id for server in await loop.servers()] == [runs.id]

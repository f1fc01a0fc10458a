"""Operators are told of hosts that are down, and of those that are so no more, once each."""

from pathlib import Path

from sqlalchemy import update
from structlog.testing import capture_logs

from muster.base.clock import system_clock
from muster.base.metrics import HOSTS
from muster.services.host_watch import HostWatch
from muster.store.hosts import hosts

from .loop import Ear, Loop, a_loop


def counted() -> dict[str, float]:
    return {sample.labels["state"]: sample.value for [family] in [HOSTS.collect()] for sample in family.samples}


async def write(loop: Loop, host: Ear, **values: object) -> None:
    async with loop.database.write() as connection:
        await connection.execute(update(hosts).where(hosts.c.id == host.id).values(**values))


async def test_hosts_that_go_down_and_come_back(tmp_path: Path) -> None:
    async with a_loop(tmp_path) as loop:
        ears = [Ear(loop, name, firewall=False) for name in "abc"]
        for ear in ears:
            await ear.say_hello()
        watch = HostWatch(loop.database, system_clock)

        async def said() -> list[tuple[str, list[str]]]:
            with capture_logs() as logs:
                await watch.look()
                await watch.look()
            return [(line["action"], line["hosts"]) for line in logs]

        assert (await said(), counted()) == ([], {"up": 3, "down": 0})
        await write(loop, ears[0], last_seen_at=1.0)
        await write(loop, ears[1], forced_down=True)
        assert (await said(), counted()) == ([("hosts.down", ["a", "b"])], {"up": 1, "down": 2})
        await ears[0].say_hello()
        assert (await said(), counted()) == ([("hosts.back", ["a"])], {"up": 2, "down": 1})

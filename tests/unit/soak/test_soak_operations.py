"""Operations whose users share something, in virtual time."""

import asyncio
from typing import cast

import pytest

from muster.base.virtual_time import run
from muster.client import ssh
from muster.client.api import Api
from muster.client.bodies import Server, ServerAddress
from muster.client.resolve import Ingredients
from muster.client.ssh import LOGIN_ATTEMPT_S, MOST_LOGINS, SshProbe, SshTarget
from muster.soak.operations import Kit, Operations
from muster.soak.resources import Resources
from muster.soak.watch import Watcher

WELL = "10.0.0.1"


class _Probe(SshProbe):
    """One guest is there, others are not."""

    async def _introduces_itself(self, address: str) -> bool:
        await asyncio.sleep(ssh.ATTEMPT_S)
        return address == WELL


async def _output(command: list[str]) -> str | None:
    if WELL in command:
        return command[-1]
    await asyncio.sleep(LOGIN_ATTEMPT_S)
    return None


def server(address: str) -> Server:
    return Server(address, addresses={"net": [ServerAddress(address)]})


async def logged_in_beside_those_who_are_away() -> None:
    kit = Kit(
        api=cast(Api, None),
        watcher=cast(Watcher, None),
        ingredients=cast(Ingredients, None),
        resources=cast(Resources, None),
        availability_zone=None,
        pinger=None,
        ssh=_Probe(SshTarget("root", 22, None), asyncio.get_running_loop().time),
    )
    operations = Operations(kit)
    away = [asyncio.create_task(operations.ssh(server(f"10.0.1.{number}"))) for number in range(MOST_LOGINS)]
    try:
        await asyncio.sleep(1.0)
        async with asyncio.timeout(10.0):
            await operations.ssh(server(WELL))
    finally:
        for task in away:
            task.cancel()
        await asyncio.gather(*away, return_exceptions=True)


def test_guests_that_do_not_answer_hold_no_others_login_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of them took all the logins at a time, and those into well guests failed."""
    monkeypatch.setattr(ssh, "_output", _output)
    run(logged_in_beside_those_who_are_away())

"""A cloud forgets deleted servers, and what was asked of the others, when it was told to and without being asked."""

import asyncio
from pathlib import Path

from muster.cli.cloud import CloudSettings, running
from muster.domain.instance_actions import ActionQuery, InstanceAction
from muster.store import deleted_servers, instance_actions
from tests.conformance.store.compute_cloud import add_server


async def test_a_cloud_forgets_what_was_deleted_long_enough_ago(tmp_path: Path) -> None:
    settings = CloudSettings(folder=tmp_path, sim_hosts=0, keep_deleted_s=60.0)
    async with running(settings, "secret") as cloud, cloud.database.write() as connection:
        await add_server(connection, "gone", deleted_at=1.0)
    async with running(settings, "secret") as cloud, asyncio.timeout(300):
        while await _due(cloud.database):
            await asyncio.sleep(0.05)


async def test_a_cloud_forgets_what_was_asked_long_enough_ago(tmp_path: Path) -> None:
    settings = CloudSettings(folder=tmp_path, sim_hosts=0, keep_actions_s=60.0)
    texts = dict.fromkeys(("server_id", "request_id", "user_id", "project_id"), "x")
    times = dict.fromkeys(("started_at", "updated_at", "finished_at"), 1.0)
    asked = [InstanceAction(action=name, **texts, **times) for name in ("create", "reboot")]
    async with running(settings, "secret") as cloud, cloud.database.write() as connection:
        await instance_actions.insert(connection, asked)
    async with running(settings, "secret") as cloud, asyncio.timeout(300):
        while await _asked(cloud.database) != ["create"]:
            await asyncio.sleep(0.05)


async def _asked(database) -> list[str]:
    async with database.read() as connection:
        return [one.action for one in await instance_actions.read(connection, "x", ActionQuery())]


async def _due(database) -> list[str]:
    async with database.read() as connection:
        return await deleted_servers.read_due(connection, before=2.0, limit=10)

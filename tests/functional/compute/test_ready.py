"""A cloud that says it is ready takes servers, on all of its hosts."""

from pathlib import Path

from muster.cli.cloud import CloudSettings, running
from muster.store.hosts import read_pictures


async def test_all_hosts_are_known_once_the_cloud_is_there(tmp_path: Path) -> None:
    hosts = 150  # more than say hello at a time
    settings = CloudSettings(folder=tmp_path, sim_hosts=hosts)
    async with running(settings, "secret") as cloud, cloud.database.read() as connection:
        pictures = await read_pictures(connection, seen_after=0.0)
    assert len(pictures) == hosts

"""A soak against a whole cloud: failures are counted, what was made is removed, also after it was killed."""

import asyncio
import json
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from muster.base.errors import Conflict, Invalid, NotFound
from muster.cli.main import main
from muster.client.access import create_group, new_key, register_key
from muster.client.api import Call
from muster.client.cloud import Service
from muster.client.resolve import Wanted, resolve
from muster.soak.folder import JOURNAL, Saved, load, opened
from muster.soak.report import Report, report, to_json
from muster.soak.resources import prepare, remove
from muster.soak.run import Progress, run_soak
from tests.commands import HANG_S, started
from tests.functional.soak.conftest import Bed

# openstacksdk warns about its own optional InfluxDB support whenever it reads a configuration.
pytestmark = pytest.mark.filterwarnings("ignore:Support for InfluxDB requires")

SCENARIO = """
cloud = "muster"
config_files = ["{clouds}"]
image = "guest"
flavor = "m1.tiny"
users = 4
rate_per_min = 0
think_s = [0, 0.05]
timeout_s = 20
duration = "1h"
"""


async def command(*arguments: str) -> Result:
    """In a thread, for it has a loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, main, ["soak", *arguments])


def figures(said: Report) -> dict[str, tuple[int, int]]:
    return {one.name: (one.ok, one.failed) for one in said.operations}


async def test_killed_and_resumed_it_goes_on_and_leaves_nothing(bed: Bed, tmp_path: Path) -> None:
    began = time.monotonic()
    before = await killed(bed, tmp_path)
    # As long as four lives took, twice, and some more: in less nothing need have happened on a busy machine.
    goes_on_s = 2 * (time.monotonic() - began) + 4.0
    begun, ok, interrupted_s = before.statistics.lives["begun"], report(before).ok_operations, before.active_s
    assert await bed.left() == {before.run}

    with opened(bed.data) as folder:
        with pytest.raises(Conflict, match="--resume"):
            await run_soak(bed.scenario(), folder)
        before.scenario = replace(before.scenario, duration_s=before.active_s + goes_on_s)
        folder.save(before)
        async with asyncio.timeout(500):
            after = await run_soak(bed.scenario(), folder, Outage(bed), resume=True)

    said = report(after)
    assert after.run == before.run
    assert after.over
    assert await bed.left() == set()
    assert said.lives.get("taken over", 0) > 0
    assert said.lives["begun"] > begun
    assert said.interruptions_at_s == [interrupted_s]
    assert said.active_s >= before.scenario.duration_s
    assert said.ok_operations > ok
    assert said.outages >= 1
    assert said.away_s > 0
    assert any("HTTP 503" in outage.reason for outage in said.newest_outages)
    # Simulated guests that do not start are the cloud's failures, and told as such.
    well, failed = figures(said)["create"]
    assert failed > 0 or well < 16, "the one or the other of so many"
    assert failed == 0 or any("did not start" in fault.text for fault in said.faults)
    assert [one.name for one in said.combinations if one.ok][:1] == ["sim 1"]
    shown = await command("report", "--data", str(bed.data), "--json")
    assert shown.exit_code == 1
    assert shown.stdout_bytes == to_json(said)


async def killed(bed: Bed, tmp_path: Path) -> Saved:
    """Start the command, and kill it while servers are there; what it had counted."""
    file = tmp_path / "scenario.toml"
    file.write_text(SCENARIO.format(clouds=bed.clouds_yaml))
    words = (sys.executable, "-m", "muster", "soak", "run", "--data", str(bed.data), "--scenario", str(file), "--json")
    async with started(*words, stdout=asyncio.subprocess.DEVNULL), asyncio.timeout(HANG_S):
        while not in_the_middle(bed.data):
            await asyncio.sleep(0.05)
    found = load(bed.data)
    assert found is not None
    return found


def in_the_middle(data: Path) -> bool:
    if not (data / JOURNAL).exists():
        return False
    found = load(data)
    lives = found.statistics.lives if found else {}
    return 4 <= lives.get("ended", 0) < lives.get("begun", 0)


class Outage:
    """Looks on, once a second: from the second look at users on the cloud is away, until that was noticed."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self._looks = 0
        self._is_noticed = False

    def __call__(self, progress: Progress) -> None:
        self._looks += progress.doing == "users at work"
        self._is_noticed |= progress.away_s is not None
        is_due = progress.doing == "users at work" and self._looks >= 2
        self._bed.is_away = is_due and not self._is_noticed


async def test_cancelled_it_removes_what_it_made_and_says_what_it_counted(bed: Bed) -> None:
    with opened(bed.data) as folder:
        soak = asyncio.create_task(run_soak(bed.scenario(duration_s=600.0), folder))
        async with asyncio.timeout(300):
            while not in_the_middle(bed.data):
                await asyncio.sleep(0.05)
            soak.cancel()
            with pytest.raises(asyncio.CancelledError):
                await soak
    found = load(bed.data)
    assert found is not None
    assert found.over
    assert report(found).ok_operations > 0
    assert await bed.left() == set()


async def test_a_disk_that_is_full_ends_it_in_one_line_and_leaves_nothing(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each user's own error came with its stack."""

    def full(*_: object) -> None:
        raise Invalid("No space left on device")

    with opened(bed.data) as folder:
        soak = asyncio.create_task(run_soak(bed.scenario(duration_s=600.0), folder))
        async with asyncio.timeout(300):
            while not in_the_middle(bed.data):
                await asyncio.sleep(0.05)
            monkeypatch.setattr(folder, "note", full)
            with pytest.raises(Invalid, match="No space left on device"):
                await soak
    assert await bed.left() == set()


async def test_a_disk_that_is_full_when_an_outage_is_to_be_written_down_leaves_nothing_either(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clean-up began with the outage's end, failed there, and removed nothing."""

    def full(*_: object) -> None:
        raise Invalid("No space left on device")

    def shown(progress: Progress) -> None:
        if progress.away_s is not None:
            monkeypatch.setattr(folder, "note", full)
            bed.is_away = False
        elif progress.saved.statistics.lives.get("begun", 0) >= 4:
            bed.is_away = True

    with opened(bed.data) as folder:
        async with asyncio.timeout(300):
            with pytest.raises(Invalid, match="No space left on device"):
                await run_soak(bed.scenario(duration_s=600.0, think_s=(0.0, 3.0)), folder, shown)
    assert await bed.left() == set()


async def test_clean_removes_what_any_soak_left_and_nothing_else(
    bed: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(bed.clouds_yaml))
    async with bed.api() as api:
        for name in ("muster-soak-0badcafe-servers", "muster-soak-mine"):
            await create_group(api, name, "")
        await register_key(api, "muster-soak-0badcafe-key", new_key(tmp_path)[1])
        found = await resolve(api, Wanted(image="guest"))
        server = {"name": "muster-soak-0badcafe-1", "flavorRef": found.flavor_id, "imageRef": found.image_id}
        await api.send(Call("POST", "POST", Service.COMPUTE, "/servers", {"server": server}, ok=(202,)))
    refused = await command("clean", "--cloud", "muster")
    assert refused.exit_code == 2
    assert "--all" in refused.stderr
    cleaned = await command("clean", "--cloud", "muster", "--all", "--yes")
    assert (cleaned.exit_code, cleaned.stderr) == (0, "")
    assert "0badcafe" in cleaned.stdout
    assert await bed.left() == set()
    async with bed.api() as api:
        groups = await api.send(Call("GET", "GET", Service.NETWORK, "/security-groups"))
    assert "muster-soak-mine" in {group["name"] for group in json.loads(groups.body)["security_groups"]}


async def test_interrupted_before_it_began_it_does_not_tell_of_the_soak_before(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> Saved:
        raise KeyboardInterrupt

    with opened(bed.data) as folder:
        await run_soak(bed.scenario(duration_s=0.1), folder)
    monkeypatch.setattr("muster.cli.soak._play", interrupted)
    result = await command("run", "--data", str(bed.data))
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")


async def test_a_key_that_an_interruption_left_half_written_is_made_anew(bed: Bed, tmp_path: Path) -> None:
    """Its public part was empty, and each resumption ended with the cloud's refusal of it."""
    (tmp_path / "id_ed25519").write_text("half")
    (tmp_path / "id_ed25519.pub").write_text("")
    async with bed.api() as api:
        made = await prepare(api, bed.scenario(ssh=True), "muster-soak-0badcafe-", tmp_path)
        assert (tmp_path / "id_ed25519.pub").read_text().startswith("ssh-ed25519 ")
        assert made.key_file == tmp_path / "id_ed25519"
        assert await remove(api, "muster-soak-0badcafe-") == []


async def test_what_cannot_begin_says_why_in_one_line(bed: Bed, tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text('duration = ["8h"]')
    for arguments, said in (
        (("run", "--data", str(tmp_path / "b"), "--mix", "juggle=1"), "no such activity: juggle"),
        (("run", "--data", str(tmp_path / "c"), "--duration", "long"), "not a duration"),
        (("report", "--data", str(tmp_path / "d")), "no soak has been in"),
        (("clean", "--data", str(tmp_path / "e")), "no soak has been in"),
        (("run", "--data", str(tmp_path / "f"), "--scenario", str(tmp_path / "odd.toml")), "not a duration: ['8h']"),
    ):
        result = await command(*arguments)
        assert result.exit_code == 2, result.output
        assert said in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "e").exists()
    with opened(bed.data) as folder, pytest.raises(NotFound, match="no flavor huge"):
        await run_soak(bed.scenario(flavor="huge"), folder)
    assert await bed.left() == set()

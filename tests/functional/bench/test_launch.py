"""A cloud in a process of its own: it answers, and whatever happens it is gone afterwards."""

import asyncio
import os
import signal
import sys
import urllib.request
from contextlib import nullcontext
from pathlib import Path

import pytest

from muster.base.errors import Transient
from muster.bench import demo, launch
from muster.bench.launch import Launch, cloud_launch, launched, take_down, until
from muster.bench.observer import SilentObserver
from tests.commands import finished

SLOW = 'print("Muster is ready at http://nowhere", flush=True)\nimport signal, time\n{more}\ntime.sleep(600)'


def script(folder: Path, more: str = "") -> Launch:
    return Launch(arguments=("-c", SLOW.format(more=more)), folder=folder)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_cloud_answers_and_is_gone_at_the_end_of_the_block(tmp_path: Path) -> None:
    async with launched(cloud_launch(tmp_path / "cloud", sim_hosts=1)) as cloud:
        answer = await asyncio.to_thread(urllib.request.urlopen, f"{cloud.base_url}/identity/v3")
        with answer:
            assert answer.status == 200
        assert cloud.clouds_yaml.is_file()
        assert alive(cloud.pid)
    assert not alive(cloud.pid)


async def test_one_that_does_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(Transient, match=r"(?s)ended with status 2; it said: .*--port"):
        async with launched(cloud_launch(tmp_path, sim_hosts=1, more=("--port", "99999"))):
            pass


async def test_an_interpreter_that_cannot_be_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(Transient, match=r"cannot be started: /nowhere/python: No such file"):
        async with launched(script(tmp_path)):
            pass


async def test_one_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    launch = Launch(arguments=("-c", "import time; time.sleep(600)"), folder=tmp_path, start_s=0.3)
    with pytest.raises(Transient, match=r"not ready after 0\.3 s"):
        async with launched(launch):
            pass


async def test_one_that_was_killed_is_no_trouble(tmp_path: Path) -> None:
    async with launched(script(tmp_path)) as process:
        os.kill(process.pid, signal.SIGKILL)
    assert not alive(process.pid)


async def test_who_cancels_again_and_again_does_not_wait_for_what_does_not_want_to_end(tmp_path: Path) -> None:
    """The first ends the block, the second is for those who are impatient, the third means it (`base.tasks`)."""
    deaf = script(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)")
    pids: list[int] = []

    async def hold() -> None:
        async with launched(deaf) as process:
            await until(lambda: _said(process.log, b"deaf"), "deaf", timeout_s=300)
            pids.append(process.pid)
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    async with asyncio.timeout(300):
        while not pids:
            await asyncio.sleep(0.05)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.2)
        with pytest.raises(asyncio.CancelledError):
            await task
        while alive(pids[0]):
            await asyncio.sleep(0.05)


async def _said(log: Path, word: bytes) -> bool:
    return word in log.read_bytes()


async def test_the_command_is_there_for_an_interpreter_too() -> None:
    status, out, _ = await finished(sys.executable, "-m", "muster", "--version")
    assert status == 0
    assert out.startswith("muster")


async def test_what_cannot_be_taken_down_says_how_to_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(Transient, match=f"There is no folder.*try again: muster down --data {nowhere}"):
        await take_down(nowhere)
    monkeypatch.setattr(launch, "DOWN_S", 0.0)
    with pytest.raises(Transient, match="not done after 0 s; try again"):
        await take_down(tmp_path)


@pytest.mark.parametrize("stays", [True, False])
async def test_a_demonstration_keeps_its_folder_only_for_what_could_not_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    """It was gone, and with it what `muster down` would have needed."""

    async def removed(folder: Path) -> None:
        if stays:
            raise Transient("a guest stays")

    folder = tmp_path / "demo"
    monkeypatch.setattr(demo, "mkdtemp", lambda prefix: str(folder))
    monkeypatch.setattr(demo, "cloud_launch", lambda folder, **_: Launch(arguments=("-c", ""), folder=folder))
    monkeypatch.setattr(demo, "take_down", removed)
    with pytest.raises(Transient, match="a guest stays" if stays else "ended with status 0"):
        await demo.run_demo(demo.DemoOptions(), lambda: nullcontext(SilentObserver()))
    assert folder.exists() is stays

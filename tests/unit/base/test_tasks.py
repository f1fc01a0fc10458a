"""Background work goes on after whatever it raises, with pauses that grow and are forgotten again."""

import asyncio
import contextlib
import os
import signal

import pytest
from prometheus_client import REGISTRY

from muster.base.errors import Transient
from muster.base.tasks import alongside, kept_running, until_told
from muster.base.virtual_time import run


def _starts(*lives_s: float, ends: bool = False) -> list[float]:
    """When work was begun that lives so long each time, and then fails (or just ends)."""
    began: list[float] = []

    async def work() -> None:
        began.append(asyncio.get_running_loop().time())
        if len(began) > len(lives_s):
            await asyncio.Event().wait()
        await asyncio.sleep(lives_s[len(began) - 1])
        if not ends:
            raise RuntimeError("a mistake")

    async def main() -> None:
        task = asyncio.create_task(kept_running("test", work))
        while len(began) <= len(lives_s):
            await asyncio.sleep(1)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    run(main())
    return began


def test_it_begins_anew_after_pauses_that_double() -> None:
    assert _starts(0, 0, 0) == [0, 0.5, 1.5, 3.5]


def test_it_begins_anew_when_it_just_ends() -> None:
    assert _starts(0, 0, ends=True) == [0, 0.5, 1.5]


def test_pauses_are_bounded_and_short_again_after_a_good_time() -> None:
    began = _starts(*[0] * 10, 100, 0)
    assert began[10] - began[9] == 30
    assert began[11] - began[10] == 100.5


def test_only_mistakes_are_counted_for_an_alarm_and_not_that_an_engine_is_away() -> None:
    fail = iter([Transient("The database is away"), RuntimeError("a mistake"), None])

    async def work() -> None:
        error = next(fail)
        await asyncio.sleep(0)
        if error is not None:
            raise error
        await asyncio.Event().wait()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(kept_running("counted", work))
            await asyncio.sleep(60)
            task.cancel()

    run(main())
    assert REGISTRY.get_sample_value("muster_task_failures_total", {"task": "counted"}) == 1


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _fails() -> None:
    raise Transient("beside")


async def test_what_breaks_alone_is_raised_as_it_is_and_ends_the_others() -> None:
    with pytest.raises(Transient, match="beside"):
        async with alongside(_for_ever(), _fails()):
            await _for_ever()
    with pytest.raises(Transient, match="beside"):
        async with alongside(_for_ever()):
            await _fails()


async def test_several_that_break_are_a_group() -> None:
    with pytest.raises(ExceptionGroup):
        async with alongside(_fails(), _fails()):
            await _for_ever()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_unless_its_caller_has_it_ignored(number: signal.Signals) -> None:
    """What was started by `nohup` ended with its terminal."""

    async def signalled() -> str:
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.05)
        return "went on"

    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert asyncio.run(until_told(signalled())) == "went on"
        signal.signal(number, signal.SIG_DFL)
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(until_told(signalled()))
    finally:
        signal.signal(number, before)

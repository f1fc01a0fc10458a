"""A whole run against a fake cloud: what is made, measured, found out, and removed again."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.free_ports import free_port
from muster.base.errors import Invalid, NotFound, Transient
from muster.cli.fit import fit
from muster.fit import crowd
from muster.fit.observer import SilentObserver
from muster.fit.run import run_fit
from tests.commands import HANG_S, outcome, started

from .conftest import Guests

pytestmark = pytest.mark.filterwarnings("ignore:Support for InfluxDB requires")

Make = Callable[..., Awaitable[Guests]]
COMMAND = [sys.executable, "-c", "from muster.cli.fit import fit; fit()"]


def nothing_left(guests: Guests) -> bool:
    cloud = guests.cloud
    return not (cloud.alive() or cloud.keypairs or cloud.groups)


async def test_the_knee_of_a_cloud_is_found_and_nothing_is_left(guests: Make, tmp_path: Path) -> None:
    found = await guests()
    loaded = tmp_path / "loaded"
    result = await run_fit(
        found.options(
            start=1,
            step=2,
            most=8,
            bound_ms=3_000.0,
            probe=found.probe(knee=2, slow_s=6.0),
            script=f"echo x >> {loaded}\n".encode(),
        ),
        savings=lambda: 12.5,
    )
    assert result.advice.guests == 2, result.steps
    assert result.advice.limited_by == "bound"
    assert result.room.hosts == ("h1.example",)
    assert (result.advice.ram_ratio, result.advice.ram_overcommit) == (0.25, 0.5), "of 1,024 MiB, of which 512 are free"
    assert (result.advice.cpu_ratio, result.advice.cpu_overcommit) == (0.5, 0.5)
    by_guests = {step.guests: step for step in result.steps}
    assert (by_guests[2].within, by_guests[3].within) == (True, False)
    assert (by_guests[3].p50_ms or 0) > 5_000
    assert by_guests[1].saved_mib == 12.5
    assert all(step.failed == 0 for step in result.steps)
    async with asyncio.timeout(300):  # in the background
        while loaded.read_text().count("x") < found.cloud.calls["POST servers"]:
            await asyncio.sleep(0.05)
    assert loaded.read_text().count("x") == found.cloud.calls["POST servers"], "the load ran once in each guest"
    assert nothing_left(found)
    assert result.leftovers == []
    assert result.options.script is None, "a load may hold secrets; results are kept"
    key_file = found.ssh_log.read_text().split("-i ")[1].split()[0]
    assert not Path(key_file).parent.exists()


async def test_a_cloud_that_gives_no_more_is_the_limit(guests: Make) -> None:
    found = await guests(accepts=3)
    result = await run_fit(found.options(start=2, step=2, most=9, user_data=b"#!/bin/sh\n", host="h1"))
    assert (result.advice.guests, result.advice.limited_by) == (3, "cloud")
    [refused] = {step.reason for step in result.steps if step.reason}
    assert "No valid host was found" in refused
    assert found.cloud.bodies[0]["availability_zone"] == "nova:h1"
    assert found.cloud.bodies[0]["user_data"] == "IyEvYmluL3NoCg=="
    assert nothing_left(found)


async def test_what_a_request_that_was_cut_off_made_is_gone_before_fewer_are_measured(guests: Make) -> None:
    """The first refusal ends the requests beside it. A server that one of these had made ran beside fewer guests."""
    found = await guests(hang={1}, refuse={2: 403})
    options = found.options(start=2, most=2, probe=found.probe(knee=1, slow_s=6.0), bound_ms=3_000.0)
    result = await run_fit(options)
    assert (result.advice.guests, result.advice.limited_by) == (1, "cloud"), result.steps
    assert nothing_left(found)


@pytest.mark.parametrize("fault", [{"refuse": {2: 503}}, {"lose": {2}}])
async def test_a_cloud_that_does_not_answer_is_no_limit_and_what_was_measured_is_told(
    guests: Make, fault: dict[str, object]
) -> None:
    """It was taken for one that gives no more, later for the end of all that had been found out."""
    found = await guests(**fault)
    result = await run_fit(found.options(start=1, step=1, most=3))
    assert [(step.guests, step.within) for step in result.steps] == [(1, True)]
    assert (result.advice.guests, result.advice.limited_by) == (1, "failure")
    assert (result.failure or "").startswith("2 guests: ")
    assert nothing_left(found)


@pytest.mark.parametrize("fault", [{"refuse": {1: 503}}, {"lose": {1}}])
async def test_a_cloud_that_fails_at_once_has_no_result(guests: Make, fault: dict[str, object]) -> None:
    found = await guests(**fault)
    with pytest.raises(Transient):
        await run_fit(found.options(start=1, step=1, most=3))
    assert nothing_left(found)


async def test_guests_that_do_not_come_up_in_time_cannot_be_had(guests: Make) -> None:
    found = await guests(build_s=60.0)
    result = await run_fit(found.options(start=2, boot_timeout_s=1.0))
    reasons = [step.reason or "" for step in result.steps]
    assert [reason.partition(":")[0] for reason in reasons] == ["not all up after 1 s"] * 2
    assert reasons[0].endswith(": 0 of 2 became ACTIVE, 0 could be logged into")
    assert (result.advice.guests, result.advice.limited_by) == (0, "nothing")
    assert nothing_left(found)


async def test_guests_that_cannot_be_logged_into_are_told_from_those_that_do_not_boot(guests: Make) -> None:
    found = await guests()
    result = await run_fit(found.options(start=1, most=1, boot_timeout_s=4.0, ssh_port=free_port()))
    assert [step.reason for step in result.steps] == [
        "not all up after 4 s: 1 of 1 became ACTIVE, 0 could be logged into"
    ]


async def test_a_cloud_that_tells_nothing_of_its_servers_is_no_limit(
    guests: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was one that gives no more guests."""
    monkeypatch.setattr(crowd, "SILENT_S", 0.5)
    found = await guests(failing_polls=1_000_000)
    with pytest.raises(Transient, match="not told of its servers"):
        await run_fit(found.options(start=1, most=1, boot_timeout_s=2.0))
    assert nothing_left(found)


async def test_probes_that_get_no_answer_count_as_long_as_was_waited(guests: Make, tmp_path: Path) -> None:
    found = await guests()
    os.mkfifo(tmp_path / "nobody")  # whoever opens it to read waits for one who writes
    probe = f": < {tmp_path}/nobody"
    options = found.options(start=1, most=1, probe=probe, probe_timeout_s=0.6, bound_ms=500.0, measure_s=1.5)
    result = await run_fit(options)
    for step in result.steps:
        assert step.failed == step.probes > 0
        assert step.p50_ms == 600.0
    assert (result.advice.guests, result.advice.limited_by) == (0, "nothing")


async def test_a_connection_that_breaks_is_opened_anew(guests: Make, tmp_path: Path) -> None:
    found = await guests()
    once = tmp_path / "once"
    probe = f"test -e {once} || {{ touch {once}; kill -9 $$; }}"
    result = await run_fit(found.options(start=1, most=1, measure_s=6.0, probe=probe))
    first, *_ = result.steps
    assert 0 < first.failed < first.probes, "one, and as many as were due until it was open again"


async def test_which_hosts(guests: Make) -> None:
    found = await guests(hypervisors=("h1", "h2"))
    with pytest.raises(Invalid, match="Say --host or --availability-zone"):
        await run_fit(found.options(most=1))
    with pytest.raises(NotFound, match="there is no host h3; there are: h1"):
        await run_fit(found.options(most=1, host="h3"))
    with pytest.raises(NotFound, match="zone-9"):
        await run_fit(found.options(most=1, availability_zone="zone-9"))
    assert found.cloud.calls["POST servers"] == 0
    result = await run_fit(found.options(most=1, availability_zone="zone-2"))
    assert result.room.hosts == ("h2.example",)


async def test_hosts_that_are_down_are_no_room(guests: Make) -> None:
    """Their memory counted as if guests had it."""
    found = await guests(hypervisors=("a1", "b1"), down=("b1",))
    result = await run_fit(found.options(most=1, availability_zone="zone-1"))
    assert (result.room.hosts, result.room.ram_mib) == (("a1.example",), 1024)
    found = await guests(hypervisors=("a1", "b1"), down=("a1", "b1"))
    with pytest.raises(NotFound, match="down or disabled"):
        await run_fit(found.options(most=1, availability_zone="zone-1"))


async def test_a_user_who_may_not_see_hosts_says_what_they_have(guests: Make) -> None:
    found = await guests(hypervisors=None)
    result = await run_fit(found.options(most=1, host_ram_mib=256))
    assert (result.advice.ram_ratio, result.advice.cpu_ratio) == (0.5, None)


async def test_what_cannot_be_removed_is_told(guests: Make) -> None:
    found = await guests(immortal=1)
    told: list[str] = []

    class Observer(SilentObserver):
        def left(self, what: str) -> None:
            told.append(what)

    result = await run_fit(found.options(most=1, boot_timeout_s=2.0), Observer())
    assert any("it will not die" in what for what in told)
    assert result.leftovers == told


def start(found: Guests, *arguments: str) -> AbstractAsyncContextManager[Process]:
    env = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(found.lab.directory / "clouds.yaml"), "COLUMNS": "120"}
    words = ["--cloud", "fake", "--ssh-port", str(found.port), "--settle-s", "0", "--measure-s", "1", *arguments]
    return started(*COMMAND, *words, env=env, stdout=PIPE, stderr=PIPE)


async def test_the_command_ends_with_a_table_and_advice(guests: Make, tmp_path: Path) -> None:
    found = await guests()
    file = tmp_path / "fit.json"
    words = ("--max-guests", "2", "--step", "1", "--json", str(file), "--bound-ms", "20000")
    async with start(found, *words) as process:
        status, text, err = await outcome(process)
    assert status == 0, err
    assert "Up to 2 guests, memory 0.25 and CPU 0.50 times what there is: nobody looked further" in text
    assert "a memory overcommit of 0.50 and one of CPU of 0.50 or more" in " ".join(text.split())
    rows = [line.split()[0] for line in text.splitlines() if "within" in line]
    assert rows == ["1", "2"]
    written = json.loads(file.read_text())
    assert written["schema"] == "muster.fit/1"
    assert [step["guests"] for step in written["steps"]] == [1, 2]


async def test_the_command_shows_what_was_measured_when_the_cloud_fails(guests: Make, tmp_path: Path) -> None:
    found = await guests(refuse={2: 503})
    file = tmp_path / "fit.json"
    words = ("--max-guests", "3", "--step", "1", "--json", str(file), "--bound-ms", "20000")
    async with start(found, *words) as process:
        status, out, err = await outcome(process)
    assert status == 1, err
    text = " ".join(out.split())
    assert [line.split()[0] for line in out.splitlines() if "within" in line] == ["1"]
    assert "Up to 1 guest, memory 0.12 and CPU 0.25 times what there is: what held until the run ended." in text
    assert "The run ended early, with 2 guests: " in text
    assert "run it again with --start 1" in text
    assert json.loads(file.read_text())["failure"].startswith("2 guests: ")
    assert nothing_left(found)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_interruption_removes_all(guests: Make, number: signal.Signals) -> None:
    found = await guests()
    async with start(found, "--start", "3", "--measure-s", "60") as process, asyncio.timeout(HANG_S):
        assert process.stderr is not None
        while b"measuring" not in await process.stderr.readline():
            assert not process.stderr.at_eof()
        process.send_signal(number)
        status, _, err = await outcome(process)
    assert status == 130, err
    assert "removed everything" in err
    assert nothing_left(found)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--start", "0"], "between 1 and the most"),
        (["--script", "/nowhere/load"], "/nowhere/load"),
        (["--json", "/nowhere/fit.json"], "/nowhere"),
        (["--percentile", "42"], "42"),
        (["--metrics", "http://"], "http://"),
    ],
)
def test_bad_input_is_explained(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(fit, ["--cloud", "nobody", *arguments])
    assert result.exit_code not in (0, None)
    assert said in result.output
    assert "Traceback" not in result.output

"""Ping and ssh, on loopback addresses that play the servers."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.free_ports import free_port
from muster.base.errors import Forbidden, Invalid
from muster.bench.options import Phase
from muster.bench.run import run_servers
from muster.client.ping import Pinger, _icmp_socket
from muster.client.ssh import SshProbe, SshTarget
from tests.serving import ended

from .conftest import Lab

pytestmark = pytest.mark.filterwarnings("ignore:Support for InfluxDB requires")

HOSTS = ["127.0.0.11", "127.0.0.12", "127.0.0.13"]
NOBODY = "240.0.0.1"  # RFC 1112: reserved, nobody has it


def now() -> float:
    return asyncio.get_running_loop().time()


@contextlib.asynccontextmanager
async def greeting(lines: bytes, port: int | None = None) -> AsyncIterator[int]:
    """Servers on all hosts that say these lines and hang up; their port."""
    open_writers: set[asyncio.StreamWriter] = set()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.add(writer)
        writer.write(lines)
        with contextlib.suppress(OSError):
            await reader.read()

    chosen = port or free_port()
    server = await asyncio.start_server(greet, HOSTS, chosen)
    try:
        yield chosen
    finally:
        await ended(server, open_writers)


@pytest.fixture
def icmp() -> None:
    try:
        _icmp_socket(socket.AF_INET)[0].close()
    except Forbidden:
        pytest.skip("this user may not ping")


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `ssh` that notes its arguments and runs the command, which comes after the host, here."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/ssh.log\nwhile [ "$1" != -- ]; do shift; done\nshift 2\n"$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return tmp_path / "ssh.log"


@pytest.mark.root
@pytest.mark.usefixtures("icmp")
async def test_first_replies_of_many_come_over_one_socket() -> None:
    addresses = [f"127.0.1.{number}" for number in range(1, 101)]
    async with Pinger(now) as pinger:
        moments = await asyncio.gather(*(pinger.first_reply(address) for address in addresses))
        assert len(pinger._sockets) == 1
    assert max(moments) <= asyncio.get_running_loop().time()


@pytest.mark.root
@pytest.mark.usefixtures("icmp")
async def test_who_does_not_answer_is_waited_for() -> None:
    async with Pinger(now) as pinger:
        silent = asyncio.create_task(pinger.first_reply(NOBODY))
        await pinger.first_reply("127.0.0.1")
        await asyncio.sleep(0.5)
        assert not silent.done()
        silent.cancel()
        with pytest.raises(asyncio.CancelledError):
            await silent
        assert pinger._waiting == {}


@pytest.mark.root
@pytest.mark.usefixtures("icmp")
async def test_two_may_wait_for_one_address() -> None:
    async with Pinger(now) as pinger:
        first, second = await asyncio.gather(pinger.first_reply("127.0.0.1"), pinger.first_reply("127.0.0.1"))
    assert first == second


@pytest.mark.root
@pytest.mark.usefixtures("icmp")
async def test_ipv6_answers_too() -> None:
    async with Pinger(now) as pinger:
        async with asyncio.timeout(300):
            await pinger.first_reply("::1")


async def test_what_is_no_address_is_refused() -> None:
    async with Pinger(now) as pinger:
        with pytest.raises(Invalid):
            await pinger.first_reply("example.org")


async def test_a_banner_may_follow_other_lines() -> None:
    async with greeting(b"welcome\r\nSSH-2.0-dropbear_2022.83\r\n") as port:
        async with asyncio.timeout(300):
            await SshProbe(SshTarget("root", port, None), now).banner(HOSTS[0])


async def test_another_service_is_no_ssh() -> None:
    async with greeting(b"220 smtp\r\n" * 2) as port:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await SshProbe(SshTarget("root", port, None), now).banner(HOSTS[0])


async def test_ssh_that_comes_later_is_found() -> None:
    port = free_port()
    waiting = asyncio.create_task(SshProbe(SshTarget("root", port, None), now).banner(HOSTS[0]))
    await asyncio.sleep(0.3)
    assert not waiting.done()
    async with greeting(b"SSH-2.0-x\r\n", port), asyncio.timeout(300):
        await waiting


async def test_a_login_that_hangs_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ssh"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    pid = tmp_path / "pid"
    login = asyncio.create_task(SshProbe(SshTarget("root", 22, None), now).login(HOSTS[0]))
    async with asyncio.timeout(300):
        while not pid.exists() or not pid.read_text().endswith("\n"):
            await asyncio.sleep(0.02)
    login.cancel()
    with pytest.raises(asyncio.CancelledError):
        await login
    assert not Path(f"/proc/{pid.read_text().strip()}").exists()


@pytest.mark.root
@pytest.mark.usefixtures("icmp")
async def test_all_four_phases(lab: Lab, fake_ssh: Path) -> None:
    await lab.cloud(addresses=HOSTS)
    async with greeting(b"SSH-2.0-test\r\n") as port:
        result = await run_servers(lab.options(count=3, phases=tuple(Phase), ssh_port=port, login=True, user="user"))
    assert result.ok, (result.faults, result.leftovers)
    assert {figure.name: figure.ok for figure in result.figures} == dict.fromkeys(
        ("POST accepted", "create", "ping", "ssh", "until ready", "delete"), 3
    )
    calls = fake_ssh.read_text().splitlines()
    assert len(calls) == 3
    key_file = calls[0].split("-i ")[1].split()[0]
    assert key_file.endswith("id_ed25519")
    assert not Path(key_file).parent.exists()


@pytest.mark.root
@pytest.mark.usefixtures("icmp")
async def test_a_server_that_does_not_answer_fails_in_that_phase_only(lab: Lab) -> None:
    await lab.cloud(addresses=[HOSTS[0], NOBODY])
    result = await run_servers(lab.options(count=2, phases=(Phase.CREATE, Phase.PING, Phase.DELETE), timeout_s=8.0))
    assert {figure.name: (figure.ok, figure.total) for figure in result.figures} == {
        "POST accepted": (2, 2),
        "create": (2, 2),
        "ping": (1, 2),
        "until ready": (1, 2),
        "delete": (2, 2),
    }
    assert [(fault.phase, fault.servers) for fault in result.faults] == [(Phase.PING, 1)]

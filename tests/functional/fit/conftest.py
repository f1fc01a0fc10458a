"""A fake cloud whose guests are this machine: `ssh` runs their commands here, and their number slows them down."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.free_ports import free_port
from muster.client import access
from muster.fit import crowd
from muster.fit.options import FitOptions
from tests.functional.bench.conftest import Lab, lab
from tests.functional.bench.fake_cloud import FakeCloud
from tests.serving import ended

__all__ = ["Guests", "guests", "lab"]

HOSTS = ["127.0.0.21", "127.0.0.22", "127.0.0.23"]


class Guests:
    """All guests of a fake cloud. With more than `knee` of them a probe takes `slow_s` seconds."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.port = free_port()
        self.cloud: FakeCloud
        self.ssh_log = folder / "ssh.log"
        self.open_writers: set[asyncio.StreamWriter] = set()

    def probe(self, knee: int, slow_s: float) -> str:
        """What a guest runs when it is probed."""
        return f'read -r n < {self.folder}/alive; test "$n" -le {knee} || sleep {slow_s}'

    def options(self, **changes: Any) -> FitOptions:
        known: dict[str, Any] = {
            "cloud": "fake",
            "config_files": (str(self.lab.directory / "clouds.yaml"),),
            "ssh_port": self.port,
            "settle_s": 0,
            "measure_s": 1.0,
            "every_s": 0.25,
            "percentile": 50,
            "bound_ms": 20_000.0,
            "boot_timeout_s": 300.0,
        }
        return FitOptions(**{**known, **changes})

    async def count(self) -> None:
        """Tell probes how many there are."""
        while True:
            new = self.folder / "alive.new"
            new.write_text(f"{len(self.cloud.alive())}\n")
            new.replace(self.folder / "alive")
            await asyncio.sleep(0.02)

    async def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_writers.add(writer)
        with contextlib.suppress(OSError):
            writer.write(b"SSH-2.0-test\r\n")
            await reader.read()
        writer.close()


@pytest.fixture
async def guests(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Any]]:
    """Makes a fake cloud that behaves as told, with guests."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/ssh.log\nwhile [ "$1" != -- ]; do shift; done\nshift 2\n'
        '[ "$*" = sh ] && exec sh\nexec sh -c "$*"\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(crowd, "POLL_S", 0.1)
    monkeypatch.setattr(crowd, "QUIET_S", 0.5)
    monkeypatch.setattr(access, "GROUP_IN_USE_PAUSE_S", 0.02)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # what "guests" keep is kept here
    stack = contextlib.AsyncExitStack()

    async def make(**behaviour: Any) -> Guests:
        found = Guests(lab, tmp_path)
        found.cloud = await lab.cloud(addresses=HOSTS, **behaviour)
        counting = asyncio.create_task(found.count())
        stack.push_async_callback(asyncio.gather, counting, return_exceptions=True)
        stack.callback(counting.cancel)
        server = await asyncio.start_server(found.greet, HOSTS, found.port)
        stack.push_async_callback(ended, server, found.open_writers)
        return found

    async with stack:
        yield make

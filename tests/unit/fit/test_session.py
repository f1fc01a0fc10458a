"""A shell that is asked again and again, over a program that plays ssh."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from muster.base.errors import Transient
from muster.client.ssh import SshTarget
from muster.fit.session import Session


@pytest.fixture
async def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Session]:
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\nexec sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    session = Session(SshTarget("root", 22, None), "192.0.2.1", asyncio.get_running_loop().time)
    await session.open(30.0)
    yield session
    await session.close()


async def test_an_answer_that_comes_late_is_not_taken_for_the_next_one(session: Session) -> None:
    assert await session.ask("sleep 0.5", 0.1) is None
    took_s = await session.ask("sleep 0.4", 30.0)
    assert took_s is not None
    assert took_s >= 0.7, "the rest of the first, and all of the second"


async def test_what_a_command_prints_or_reads_is_not_taken_for_an_answer(session: Session) -> None:
    assert await session.ask("cat; echo some; echo words >&2; false", 30.0) is not None
    assert await session.ask("true", 30.0) is not None


async def test_a_connection_that_ends_is_told_and_can_be_opened_again(session: Session) -> None:
    with pytest.raises(Transient):
        await session.ask("exit", 30.0)
    with pytest.raises(Transient):
        await session.ask("true", 30.0)
    await session.open(30.0)
    assert await session.ask("true", 30.0) is not None

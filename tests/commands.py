"""Commands as processes of their own, of which nothing runs on when a test fails or is ended in the middle."""

import asyncio
import contextlib
import os
import signal
import subprocess
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

#: For what hangs: far beyond what anything takes on a busy machine.
HANG_S = 300.0


@asynccontextmanager
async def started(*words: str, **options: Any) -> AsyncIterator[Process]:
    """A command that was started. One that has not ended by itself is killed with the block, and its children as well.

    `options` are those of `asyncio.create_subprocess_exec`.
    """
    process = await asyncio.create_subprocess_exec(*words, start_new_session=True, **options)
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def finished(*words: str, **options: Any) -> tuple[int | None, str, str]:
    """A command's exit status and both its outputs, once it has ended. Raises TimeoutError when it hangs."""
    async with started(*words, stdout=PIPE, stderr=PIPE, **options) as process:
        return await outcome(process)


async def outcome(process: Process, within_s: float = HANG_S) -> tuple[int | None, str, str]:
    """The same of one that was started with pipes for its outputs: what is left of them."""
    async with asyncio.timeout(within_s):
        out, err = await process.communicate()
    return process.returncode, (out or b"").decode(), (err or b"").decode()


@contextmanager
def running(*words: str, **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """The same where nothing is asynchronous. `options` are those of `subprocess.Popen`."""
    with subprocess.Popen(words, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def sh(*words: str) -> str:
    """What a command says that ends well, without a shell. A single text is split into words."""
    command = words[0].split() if len(words) == 1 else words
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout

"""Runs a cloud of this machine in a process of its own, for benchmarks, demonstrations and tests.

The cloud is told by its command line and known by its public face alone, like any other cloud. Invariant: at the end of
the block the process is gone, also after a failure or a cancellation; it is asked to end before it is killed.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from muster.base.errors import Transient
from muster.base.tasks import to_its_end

READY_WORD = b"ready at "
START_S = 120.0
STOP_S = 30.0
# `muster down` itself waits for a minute for the cloud's process, then ends guest after guest.
DOWN_S = 300.0
_LOG_TAIL = 4_000


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: `arguments` follow `muster`; `folder` gets the log, and the clouds.yaml that a cloud writes."""

    arguments: tuple[str, ...]
    folder: Path
    start_s: float = START_S


class Launched(msgspec.Struct, frozen=True):
    """A running process that said it is ready, and where."""

    pid: int
    base_url: str
    log: Path
    clouds_yaml: Path


def cloud_launch(folder: Path, *, sim_hosts: int, more: tuple[str, ...] = ()) -> Launch:
    """`muster up` in `folder`, on a free port of the loopback interface."""
    arguments = ("-m", "muster", "up", "--data", str(folder), "--port", "0", "--sim-hosts", str(sim_hosts))
    return Launch(arguments=(*arguments, *more), folder=folder)


@asynccontextmanager
async def launched(launch: Launch) -> AsyncIterator[Launched]:
    """Start the process, wait until it is ready, stop it at the end of the block.

    Raises Transient, with what the process said, when it ends or says nothing before `start_s` is over. Its output goes
    to `folder/log`. It is in a session of its own: Ctrl-C reaches it only through the end of the block.
    """
    launch.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = launch.folder / "log"
    process = await _start(launch, log)
    try:
        base_url = await _ready(process, log, launch.start_s)
        yield Launched(process.pid, base_url, log, launch.folder / "clouds.yaml")
    finally:
        await to_its_end(stop(process))


async def _start(launch: Launch, log: Path) -> asyncio.subprocess.Process:
    try:
        with log.open("wb") as output:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *launch.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except OSError as error:
        raise Transient(f"the cloud's process cannot be started: {sys.executable}: {error.strerror}") from error


async def _ready(process: asyncio.subprocess.Process, log: Path, start_s: float) -> str:
    try:
        async with asyncio.timeout(start_s):
            while process.returncode is None:
                if (base_url := _told(log)) is not None:
                    return base_url
                await asyncio.sleep(0.05)
    except TimeoutError as error:
        raise Transient(f"the cloud is not ready after {start_s:g} s; it said: {tail(log)}") from error
    raise Transient(f"the cloud ended with status {process.returncode}; it said: {tail(log)}")


def _told(log: Path) -> str | None:
    """Where the process said it is ready, once it has said so."""
    _, found, rest = log.read_bytes().partition(READY_WORD)
    return rest.split(b"\n", 1)[0].decode().strip() if found and b"\n" in rest else None


async def stop(process: asyncio.subprocess.Process, *, stop_s: float = STOP_S) -> None:
    """Ask the process to end, wait, and kill it when it does not, or when nobody wants to wait any more."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(stop_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    except asyncio.CancelledError:
        process.kill()
        raise


async def take_down(folder: Path) -> None:
    """Whatever a cloud with real guests has left on this machine goes. Raises Transient, with what to do, if not."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "muster", "down", "--data", str(folder)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(DOWN_S):
            said, _ = await process.communicate()
    except TimeoutError:
        said = f"not done after {DOWN_S:g} s".encode()
    finally:
        await stop(process, stop_s=0.0)
    if process.returncode:
        why = said.decode(errors="replace").strip()
        raise Transient(f"what the cloud left could not be removed: {why}; try again: muster down --data {folder}")


def tail(log: Path) -> str:
    """The end of a log, for a message."""
    return log.read_bytes()[-_LOG_TAIL:].decode(errors="replace").strip() or "nothing"


async def until(holds: Callable[[], Awaitable[bool]], what: str, *, timeout_s: float) -> None:
    """Wait until `holds()`, looking ten times a second. Raises Transient, naming `what`, when it takes too long."""
    try:
        async with asyncio.timeout(timeout_s):
            while not await holds():  # noqa: ASYNC110 - what is waited for is in another process
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise Transient(f"{what}: not after {timeout_s:g} s") from error

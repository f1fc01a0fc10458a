"""A shell in a guest over one ssh connection, as a user has it open: commands are answered without a new login.

Invariant: an answer is taken for its own question only. A probe that took too long leaves its answer behind, and the
next one reads past it.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Callable

from muster.base.errors import Invalid, Transient
from muster.client.ssh import SshTarget, ssh_command

# A file of its own each time: nobody's link is written through, and a start that is tried again disturbs no first one.
_START = 'f=$(mktemp -t muster-fit-load.XXXXXX) && cat >"$f" && (nohup sh "$f" </dev/null >"$f".log 2>&1 &)'


class Session:
    """`open` it, `ask` as often as wanted, `close` it. For one question at a time."""

    def __init__(self, target: SshTarget, address: str, now: Callable[[], float]) -> None:
        self._command = [*ssh_command(target, address), "sh"]
        self._now = now
        self._process: asyncio.subprocess.Process | None = None

    async def open(self, timeout_s: float) -> None:
        """Log in, and wait until the shell answers. Raises Transient."""
        await self.close()
        self._process = await _ssh(self._command)
        try:
            if await self.ask("true", timeout_s) is None:
                raise Transient(f"no answer within {timeout_s:g} s")
        except Transient:
            await self.close()
            raise

    async def ask(self, command: str, timeout_s: float) -> float | None:
        """Run the command and wait for its end; how long it took, in seconds; None: not within `timeout_s`.

        What it prints is thrown away, its exit status is not looked at. Raises Transient when the connection is broken.
        """
        process, word = self._process, secrets.token_hex(8)
        if process is None or process.stdin is None or process.stdout is None or process.returncode is not None:
            raise Transient("there is no connection to the guest")
        began_s = self._now()
        try:
            async with asyncio.timeout(timeout_s):
                process.stdin.write(f"{{ {command}\n}} </dev/null >/dev/null 2>&1; echo {word}\n".encode())
                await process.stdin.drain()
                while line := await process.stdout.readline():
                    if line.strip() == word.encode():
                        return self._now() - began_s
        except TimeoutError:
            return None
        except (OSError, ValueError) as error:
            raise Transient(f"the connection broke: {error}") from error
        raise Transient("the connection ended")

    async def close(self) -> None:
        """End the connection."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            if process.stdin is not None:
                process.stdin.close()  # what ssh may have started for itself (a proxy) ends with it
            await process.wait()


async def start_load(target: SshTarget, address: str, script: bytes, timeout_s: float) -> None:
    """Put the script into the guest and start it there, in the background. Raises Transient. One ssh process."""
    process = await _ssh([*ssh_command(target, address), _START])
    try:
        async with asyncio.timeout(timeout_s):
            await process.communicate(script)
    except TimeoutError as error:
        raise Transient(f"the script did not start within {timeout_s:g} s") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode != 0:
        raise Transient(f"the script could not be started: ssh ended with status {process.returncode}")


async def _ssh(command: list[str]) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this program alone
        )
    except OSError as error:
        raise Invalid(f"the program ssh cannot be started: {error}") from error

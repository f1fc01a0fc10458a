"""Whether a server's ssh answers: its banner by a plain connection, a login by the `ssh` program.

The login is made by the program that users use, with host keys ignored (a new server's key cannot be known) and no
configuration file read. At most `MOST_LOGINS` run at a time, since each costs CPU that the cloud may need.

Invariant: nothing of the cloud's answers gets into a command line unless it is an IP address.
"""

import asyncio
import contextlib
import ipaddress
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from muster.base.errors import Invalid, NotFound

ATTEMPT_S = 2.0
AGAIN_S = 0.2
MOST_CONNECTIONS = 512
MOST_LOGINS = 4
LOGIN_ATTEMPT_S = 30
_LONGEST_BANNER = 4096


class SshTarget(msgspec.Struct, frozen=True):
    """How to log in: the user's name, the port, the private key's file."""

    user: str
    port: int
    key_file: Path | None


class SshProbe:
    """Waits for ssh on many servers, with bounded numbers of connections and of processes."""

    def __init__(self, target: SshTarget, now: Callable[[], float]) -> None:
        if target.user.startswith("-") or not target.user.isprintable():
            raise Invalid(f"not a user name: {target.user!r}")
        self._target = target
        self._now = now
        self._connections = asyncio.Semaphore(MOST_CONNECTIONS)
        self._logins = asyncio.Semaphore(MOST_LOGINS)

    async def banner(self, address: str) -> float:
        """Connect until an ssh server introduces itself (RFC 4253, 4.2); the moment at which it did."""
        while True:
            async with self._connections:
                if await self._introduces_itself(address):
                    return self._now()
            await asyncio.sleep(AGAIN_S)

    async def _introduces_itself(self, address: str) -> bool:
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(ATTEMPT_S):
                reader, writer = await asyncio.open_connection(address, self._target.port, limit=_LONGEST_BANNER)
                return await _ssh_line(reader)
        except (OSError, TimeoutError, ValueError):  # not there yet, or not ssh
            return False
        finally:
            if writer is not None:
                writer.transport.abort()

    async def login(self, address: str) -> float:
        """Log in and run a command, until its output comes back; the moment at which it had.

        Cost: one `ssh` process per attempt.
        """
        word = secrets.token_hex(8)
        command = [*ssh_command(self._target, address), "echo", word]
        while True:
            async with self._logins:
                if await _output(command) == word:
                    return self._now()
            await asyncio.sleep(AGAIN_S)


def ensure_ssh() -> None:
    """Raises NotFound when there is no program `ssh`: known before anything is made."""
    if shutil.which("ssh") is None:
        raise NotFound("a login needs the program ssh (Debian: openssh-client)")


async def _ssh_line(reader: asyncio.StreamReader) -> bool:
    """Whether a line that begins with SSH- comes; other lines may come before it."""
    while line := await reader.readline():
        if line.startswith(b"SSH-"):
            return True
    return False


def ssh_command(target: SshTarget, address: str) -> list[str]:
    """The `ssh` command up to the host. Raises Invalid for what is no IP address."""
    try:
        host = str(ipaddress.ip_address(address))
    except ValueError as error:
        raise Invalid(f"not an IP address: {address}") from error
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "ConnectTimeout": str(LOGIN_ATTEMPT_S),
        "LogLevel": "ERROR",
    }
    settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    key = ["-i", str(target.key_file)] if target.key_file else []
    return ["ssh", "-F", "/dev/null", "-T", *settings, *key, "-p", str(target.port), "-l", target.user, "--", host]


async def _output(command: list[str]) -> str | None:
    """What the command prints; None if it fails or takes too long. A cancelled wait ends the process too."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        raise Invalid(f"the program ssh cannot be started: {error}") from error
    try:
        async with asyncio.timeout(LOGIN_ATTEMPT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return output.decode("utf-8", "replace").strip() if process.returncode == 0 else None

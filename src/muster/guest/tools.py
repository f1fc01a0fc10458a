"""Programs of the building machine: which are needed, whether they are there, and running one with a time limit.

Invariant: a missing program is reported before any work, together with the Debian package that has it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from muster.base.errors import Bug, Transient, Unsupported

#: Program -> Debian package. All else comes from downloaded packages.
NEEDED = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "qemu-img": "qemu-utils",
}
#: Where e2fsprogs live; often not in the PATH of an ordinary user.
_SYSTEM_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


def find(program: str) -> str | None:
    """Absolute path of `program`, or None."""
    return shutil.which(program) or shutil.which(program, path=_SYSTEM_PATH)


def require(programs: Iterable[str] = NEEDED) -> None:
    """Raise Unsupported (code `guest.missing_tools`) that names each missing program and what to install."""
    missing = [program for program in programs if find(program) is None]
    if not missing:
        return
    packages = sorted({NEEDED.get(program, program) for program in missing})
    raise Unsupported(
        f"needed to build the guest image but not found: {', '.join(missing)}; "
        f"on Debian: apt-get install {' '.join(packages)}",
        code="guest.missing_tools",
        missing=missing,
        packages=packages,
    )


def run(
    command: list[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run one program without a shell and return what it said.

    `env` is added to the environment, in which messages are always untranslated. Raises Transient when the program
    takes longer than `timeout_s`, Bug (code `guest.tool_failed`) with its last lines when it fails. One process.
    """
    with _explained(command[0]):
        return subprocess.run(  # noqa: S603  # no shell; arguments are built in this package
            _resolved(command),
            cwd=cwd,
            env={**os.environ, "LC_ALL": "C", **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=True,
        )


def pipe(command: list[str], output: IO[bytes], *, timeout_s: float = 120) -> None:
    """Run one program with its standard output going to `output`; otherwise as `run`."""
    with _explained(command[0]):
        subprocess.run(  # noqa: S603  # as above
            _resolved(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            timeout=timeout_s,
            check=True,
        )


def _resolved(command: list[str]) -> list[str]:
    return [find(command[0]) or command[0], *command[1:]]


@contextmanager
def _explained(program: str) -> Iterator[None]:
    name = Path(program).name
    try:
        yield
    except FileNotFoundError as error:
        raise Unsupported(f"{name} is not there", code="guest.missing_tools") from error
    except subprocess.TimeoutExpired as error:
        raise Transient(f"{name} did not end within {error.timeout:g} s", code="guest.tool_slow") from error
    except subprocess.CalledProcessError as error:
        raise Bug(f"{name} failed: {_last_lines(error.stderr or error.stdout)}", code="guest.tool_failed") from error


def _last_lines(said: str | bytes | None) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said or ""
    return " / ".join(text.strip().splitlines()[-5:])

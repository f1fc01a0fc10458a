"""Processes in the lab's network namespaces: started there, found there, told things, and ended.

Invariants: a process is known by the namespace that it is in, not by a number that was written down: what a lab started
is found whoever recorded it, and nothing else is ever touched, however numbers are reused (it is looked at again after
its pidfd has been opened). A process is in its namespace before the caller hears of it, and is no child of the caller.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from muster.base.descriptors import is_readable
from muster.base.errors import Transient
from muster.lab.engines.programs import program

#: What a log says first of each start.
STARTED = "muster lab: started"
_STARTED_S = 60.0
_END_S = 30.0
_RUN_S = 120.0
_TOLD = 1_000
# Each does something for this process and its children alone, and goes on with what follows: makes a folder the
# account's home; gives the machine another name.
_NAMED = 'echo "$1" > /proc/sys/kernel/hostname && shift && exec "$@"'
_AT_HOME = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


class Account(Struct, frozen=True):
    """Who a process is instead of root: the user's name and home. What is in `folder` is at `home`, for it alone, so
    that it needs no right to any folder above.
    """

    user: str
    home: Path
    folder: Path


class Launch(Struct, frozen=True, kw_only=True):
    """What is to be started; both of its outputs are added to `log`. `hostname` is the machine's name as it sees it."""

    command: Sequence[str]
    log: Path
    environment: Mapping[str, str]
    account: Account | None = None
    hostname: str | None = None


class Process(Struct, frozen=True, kw_only=True):
    """A process as /proc shows it. `started` is in clock ticks since the machine's start; `state` as in ps(1)."""

    pid: int
    parent: int
    state: str
    started: int
    namespace: int

    @property
    def is_paused(self) -> bool:
        """Whether it was stopped by a signal."""
        return self.state in "Tt"


def inside(namespace: str, command: Sequence[str]) -> list[str]:
    """The command that runs `command` in a namespace."""
    return [program("ip", "iproute2"), "netns", "exec", namespace, *command]


def start(namespace: str, launch: Launch) -> None:
    """Start it in a session of its own; returns when it is in its namespace, not when it is ready. Raises Transient."""
    command = [program("setsid", "util-linux"), "--fork", *_wrapped(launch)]
    with launch.log.open("ab") as log:
        log.write(f"{STARTED} at {datetime.now(UTC):%F %T} UTC\n".encode())
        log.flush()
        try:
            done = subprocess.run(
                inside(namespace, command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(launch.environment),
                timeout=_STARTED_S,
                check=False,
                cwd="/",
            )
        except subprocess.TimeoutExpired as error:
            raise Transient(f"{launch.command[0]} does not start: see {launch.log}") from error
    if done.returncode != 0:
        raise Transient(f"{launch.command[0]} cannot be started: see {launch.log}")


def run(namespace: str, launch: Launch, text: str = "") -> str:
    """Run it to its end, with `text` as its input; its output. Raises Transient when it fails or hangs."""
    try:
        done = subprocess.run(
            inside(namespace, _wrapped(launch)),
            input=text,
            capture_output=True,
            text=True,
            env=dict(launch.environment),
            timeout=_RUN_S,
            check=False,
            cwd="/",
        )
    except subprocess.TimeoutExpired as error:
        raise Transient(f"{launch.command[0]} does not end") from error
    with launch.log.open("a") as log:
        log.write(done.stderr)
    if done.returncode != 0:
        raise Transient(f"{launch.command[0]} failed: {done.stderr.strip()[-_TOLD:]}")
    return done.stdout


def _wrapped(launch: Launch) -> list[str]:
    """The command with what makes it somebody else's and elsewhere. Each program becomes the next: one process."""
    words = list(launch.command)
    if (account := launch.account) is not None:
        become = [program("setpriv", "util-linux"), "--reuid", account.user, "--regid", account.user, "--clear-groups"]
        words = [program("sh", "dash"), "-c", _AT_HOME, "sh", str(account.folder), str(account.home), *become, *words]
    if launch.hostname is not None:
        shell = [program("sh", "dash"), "-c", _NAMED, "sh", launch.hostname]
        words = [program("unshare", "util-linux"), "--uts", *shell, *words]
    return words


def found(namespaces: Iterable[int]) -> dict[int, list[Process]]:
    """The processes in these namespaces, the oldest first, by the namespace's number. Looks at each process once."""
    groups: dict[int, list[Process]] = {number: [] for number in namespaces}
    for entry in Path("/proc").iterdir():
        process = _process(int(entry.name)) if entry.name.isdecimal() else None
        if process is not None and process.namespace in groups and process.state not in "ZX":
            groups[process.namespace].append(process)
    return {number: sorted(group, key=lambda one: (one.started, one.pid)) for number, group in groups.items()}


def number_of(namespace: Path) -> int | None:
    """The number of a namespace, for as long as it is there; None where there is none."""
    with contextlib.suppress(OSError):
        return namespace.stat().st_ino
    return None


def arguments(process: Process) -> list[str]:
    """The command line of a process; nothing when it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process.pid}/cmdline").read_text(errors="replace").split("\0")
    return []


def send(processes: Iterable[Process], number: signal.Signals) -> list[Process]:
    """Send a signal to those of them that are still who they were; who got it."""
    reached = []
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(process.pid)
            try:
                now = _process(process.pid)
                if now is not None and (now.started, now.namespace) == (process.started, process.namespace):
                    signal.pidfd_send_signal(descriptor, number)
                    reached.append(process)
            finally:
                os.close(descriptor)
    return reached


def kill_all(namespaces: Collection[int]) -> int:
    """End everything in these namespaces at once, also what is being started meanwhile; how many there were.

    The caller sees to it that the namespaces stay meanwhile: another would get the number. Raises Transient when
    something does not end (it hangs in the kernel).
    """
    killed: set[int] = set()
    deadline = time.monotonic() + _END_S
    while left := [process for group in found(namespaces).values() for process in group]:
        if time.monotonic() > deadline:
            raise Transient(f"processes that do not end: {', '.join(str(process.pid) for process in left)}")
        killed |= {process.pid for process in send(left, signal.SIGKILL)}
        await_end(left, 1.0)
    return len(killed)


def await_end(processes: Iterable[Process], timeout_s: float) -> bool:
    """Whether all of them end in time."""
    deadline = time.monotonic() + timeout_s
    return all(_ends(process, deadline) for process in processes)


def _ends(process: Process, deadline: float) -> bool:
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        now = _process(process.pid)
        if now is None or now.started != process.started or now.state in "ZX":
            return True
        return is_readable(descriptor, deadline - time.monotonic())
    finally:
        os.close(descriptor)


def _process(pid: int) -> Process | None:
    """A process of this machine; None when there is none any more."""
    with contextlib.suppress(OSError):
        namespace = os.stat(f"/proc/{pid}/ns/net").st_ino
        # After the command's name, which may hold anything, in brackets: state, parent, ..., the start as 22nd field.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return Process(pid=pid, parent=int(fields[1]), state=fields[0], started=int(fields[19]), namespace=namespace)
    return None

"""A libvirtd of Muster's own, for a machine without one that is running: `muster up --libvirt` in a container or a VM.

The daemon has its own directories, drivers and users, seen through a private mount namespace, and its own process
namespace whose first process is tini: it reaps at once whatever QEMU leaves behind, restarts libvirtd when that dies,
and takes every guest along when it ends.

Invariants: at most one daemon per directory, which the kernel vouches for: a file lock is handed down to the daemon
and is held as long as any of it runs. It outlives Muster, and the next start finds it. Nothing of the machine's own
libvirt is read or changed.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct

from muster.base.descriptors import end_process
from muster.base.errors import Invalid, Transient, Unsupported
from muster.base.file_lock import take_lock
from muster.base.log import get_logger
from muster.base.units import MIB
from muster.host.hypervisor.libvirt import console

#: What must be there, and the Debian packages that bring it.
_PROGRAMS = {
    "libvirtd": "libvirt-daemon",
    "qemu-system-x86_64": "qemu-system-x86",
    "tini": "tini",
    "unshare": "util-linux",
    "setsid": "util-linux",
    "mount": "mount",
}
# What the daemon finds on its path, besides itself the emulator: it would run `tc` for each network card of a guest, to
# set the queueing discipline that taps have already, and goes on without.
_FOUND = ("libvirtd", "qemu-system-x86_64")
_DRIVERS = ("libvirt_driver_qemu.so", "libvirt_driver_secret.so")
_DRIVER_DIRS = ("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver", "/usr/lib64/libvirt/connection-driver")
_DRIVER_PACKAGE = "libvirt-daemon-driver-qemu"
#: Where libvirtd looks, and what it shall find there.
_MOUNTS = {
    "etc": "/etc/libvirt",
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
}
_FILE_MOUNTS = {"users/passwd": "/etc/passwd", "users/group": "/etc/group"}
#: The daemon insists on this user, even when guests do not run as it.
_USER = "libvirt-qemu"
_USER_ID = 64_055  # Debian's
#: Of a Unix socket's address (sun_path), without its final zero; the admin socket's name is the longest.
_SOCKET_PATH_BYTES = 107
_LOG_KEEP_BYTES = MIB
_LONGEST_SOCKET = "libvirt-admin-sock"

# Arguments, never text, carry the paths. The first process says its number as the machine counts, before /proc becomes
# that of the new namespace.
_SCRIPT = """
set -eu
read -r pid rest < /proc/self/stat
echo "$pid" > "$1/pid"
mount -t proc proc /proc
directory=$1 loop=$2
shift 2
while [ $# -gt 0 ]; do
    mount --bind "$directory/$1" "$2"
    shift 2
done
export LIBVIRT_DRIVER_DIR="$directory/drivers"
exec tini -- sh -c "$loop" muster-libvirtd "$directory"
"""

# Every process of the namespace gets the signal but the first and this one; QEMU ends cleanly on it.
_LOOP = """
finish() {
    kill -s TERM -- -1
    wait
    n=0
    while kill -s 0 -- -1 2>/dev/null && [ $n -lt 50 ]; do sleep 0.1; n=$((n + 1)); done
    exit 0
}
trap finish TERM
while :; do
    rm -f "$1/libvirtd.pid"
    PATH="$1/programs" libvirtd --config "$1/etc/libvirtd.conf" --pid-file "$1/libvirtd.pid" &
    wait $!
    sleep 1 &
    wait $!
done
"""

# Only who may enter the directory reaches the sockets. One client, many calls at once.
_LIBVIRTD_CONF = """auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_rw_perms = "0700"
max_clients = 20
min_workers = 5
max_workers = 20
max_client_requests = 20
audit_level = 0
"""

# No labels, owners, cgroups or namespaces: each takes a lock or a system call per guest and file, and needs what a
# container lacks. Consoles go to files without a log daemon between.
_QEMU_CONF = """user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
security_default_confined = 0
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
"""

# How long what was killed may take to be no more, its guests' memory included.
_GONE_S = 60.0

log = get_logger(__name__)


class LibvirtdSettings(Struct, frozen=True, kw_only=True):
    """Where the daemon lives and how long it may take. Guests run as root: the machine is theirs and Muster's alone."""

    directory: Path
    start_timeout_s: float = 120.0
    stop_timeout_s: float = 15.0


class PrivateLibvirtd:
    """The daemon of one directory. Methods block; the network namespace is that of the thread that starts it."""

    def __init__(self, settings: LibvirtdSettings) -> None:
        """Raises Invalid when the directory's path is too long for a socket."""
        self._settings = settings
        self._directory = settings.directory.absolute()
        longest = self._directory / "run" / _LONGEST_SOCKET
        if len(os.fsencode(longest)) > _SOCKET_PATH_BYTES:
            raise Invalid(f"{self._directory} is too long a path for libvirt's sockets; choose another data directory")

    @property
    def uri(self) -> str:
        """What to connect to."""
        return "qemu+unix:///system?socket=" + quote(str(self._socket))

    @property
    def qemu_log_dir(self) -> Path:
        """Where it logs per guest."""
        return self._directory / "log" / "qemu"

    def start(self) -> None:
        """It runs and answers: an earlier one with all its guests, or a new one.

        Raises Unsupported (something is not installed, or the right to use namespaces is missing), Transient (it does
        not answer in time). Under a second when new; the first one of a QEMU version then asks QEMU what it can do.
        """
        require_installed()
        self._lay_out()
        lock = self._lock()
        if lock is not None:
            try:
                self._configure()
                self._spawn(lock)
            finally:
                os.close(lock)
        self._wait_until_it_answers()

    def is_running(self) -> bool:
        """Whether anything of it runs, guests included."""
        if not self._directory.exists():
            return False
        lock = self._lock()
        if lock is None:
            return True
        os.close(lock)
        return False

    def count_guests(self) -> int:
        """How many guests run, whether libvirtd answers or not: libvirt keeps a file of each one's state."""
        return sum(1 for _ in (self._directory / "run" / "qemu").glob("*.xml")) if self.is_running() else 0

    def bound_log(self) -> None:
        """What the daemon says takes no more of the disk, however long it runs. Two system calls. Raises OSError."""
        console.bound(self._log, _LOG_KEEP_BYTES)

    def stop(self) -> None:
        """It has ended, and its guests with it (as when their power fails). Raises Transient when it will not end."""
        process = self._process()
        if process is not None:
            try:
                end_process(process, self._settings.stop_timeout_s)
            finally:
                os.close(process)
        until = time.monotonic() + _GONE_S
        while self.is_running():
            if time.monotonic() > until:
                raise Transient(f"the libvirtd of {self._directory} does not end")
            time.sleep(0.02)

    @property
    def _log(self) -> Path:
        return self._directory / "log" / "libvirtd.log"

    @property
    def _socket(self) -> Path:
        return self._directory / "run" / "libvirt-sock"

    def _lay_out(self) -> None:
        """Directories and links, ours and the mount points. Raises Unsupported without the right to make them."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, mount_point in _MOUNTS.items():
                (self._directory / name).mkdir(exist_ok=True)
                Path(mount_point).mkdir(parents=True, exist_ok=True)
            for name in ("drivers", "programs", "users"):
                (self._directory / name).mkdir(exist_ok=True)
        except PermissionError as error:
            raise Unsupported(f"a private libvirtd needs root: {error}") from error

    def _configure(self) -> None:
        """Write the configuration; what is fixed at first (the host's UUID) stays."""
        host_uuid = self._directory / "host-uuid"
        if not host_uuid.exists():
            _write(host_uuid, str(uuid.uuid4()))
        _write(self._directory / "etc" / "libvirtd.conf", self._libvirtd_conf(host_uuid.read_text(encoding="ascii")))
        _write(self._directory / "etc" / "qemu.conf", _QEMU_CONF)
        _write(self._directory / "users" / "passwd", _with_user(Path("/etc/passwd"), _passwd_line()))
        _write(self._directory / "users" / "group", _with_user(Path("/etc/group"), f"{_USER}:x:{_USER_ID}:\n"))
        if (installed := _driver_dir()) is not None:
            for driver in _DRIVERS:
                _link(self._directory / "drivers" / driver, installed / driver)
        for program in _FOUND:
            if (path := shutil.which(program)) is not None:
                _link(self._directory / "programs" / program, Path(path))

    def _libvirtd_conf(self, host_uuid: str) -> str:
        return (
            f"unix_sock_dir = {_quoted(self._directory / 'run')}\n"
            f"log_outputs = {_quoted(f'3:file:{self._log}')}\n"
            f'host_uuid = "{host_uuid}"\n' + _LIBVIRTD_CONF
        )

    def _lock(self) -> int | None:
        """The daemon's lock, or None when it is running."""
        file = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if take_lock(file):
            return file
        os.close(file)
        return None

    def _spawn(self, lock: int) -> None:
        """Start the first process; it inherits the lock, and nothing of it is a child of this process.

        Raises Transient.
        """
        for stale in (self._directory / "pid", self._socket):
            stale.unlink(missing_ok=True)
        mounts = [word for mount in (_MOUNTS | _FILE_MOUNTS).items() for word in mount]
        command = ["setsid", "--fork", "unshare", "--mount", "--pid", "--fork", "--propagation", "private"]
        with (self._directory / "log" / "start.log").open("wb") as output:
            try:
                subprocess.run(  # noqa: S603
                    [*command, "sh", "-c", _SCRIPT, "muster-libvirtd", str(self._directory), _LOOP, *mounts],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(lock,),
                    cwd="/",
                    check=True,
                    timeout=10,
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise Transient(f"libvirtd cannot be started: {error}; {self._last_words()}") from error
        log.info("private libvirtd started", action="libvirtd_start", directory=str(self._directory))

    def _wait_until_it_answers(self) -> None:
        until = time.monotonic() + self._settings.start_timeout_s
        while not _answers(self._socket):
            if not self.is_running():
                raise Unsupported(f"libvirtd did not start: {self._last_words()}")
            if time.monotonic() > until:
                raise Transient(f"libvirtd does not answer: {self._last_words()}")
            time.sleep(0.01)

    def _last_words(self) -> str:
        said = [console.tail(path, None)[-1_000:].strip() for path in (self._log.with_name("start.log"), self._log)]
        return " | ".join(text for text in said if text) or "it said nothing"

    def _process(self) -> int | None:
        """A pidfd of the first process, checked to be this directory's after it was opened; None when there is none."""
        try:
            pid = int((self._directory / "pid").read_text(encoding="ascii"))
            process = os.pidfd_open(pid)
        except (OSError, ValueError):
            return None
        with contextlib.suppress(OSError):
            if os.fsencode(self._directory) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return process
        os.close(process)
        return None


def missing_packages() -> set[str]:
    """Names of the Debian packages with what libvirt and QEMU need and is not here."""
    missing = {package for program, package in _PROGRAMS.items() if shutil.which(program) is None}
    return missing if _driver_dir() is not None else missing | {_DRIVER_PACKAGE}


def require_installed() -> None:
    """Raises Unsupported, naming the Debian packages, when something that libvirt and QEMU need is missing."""
    if missing := missing_packages():
        names = " ".join(sorted(missing))
        raise Unsupported(f"libvirt and QEMU are not complete; run: apt-get install --no-install-recommends {names}")


def _driver_dir() -> Path | None:
    """Where libvirt's drivers are installed."""
    places = (Path(place) for place in _DRIVER_DIRS)
    return next((place for place in places if all((place / driver).exists() for driver in _DRIVERS)), None)


def _passwd_line() -> str:
    return f"{_USER}:x:{_USER_ID}:{_USER_ID}:Libvirt Qemu:/nonexistent:/usr/sbin/nologin\n"


def _with_user(path: Path, line: str) -> str:
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    known = any(entry.startswith(_USER + ":") for entry in text.splitlines())
    return text if known else text.rstrip("\n") + "\n" + line


def _quoted(value: object) -> str:
    """A string of libvirt's configuration language, which knows no escapes. Raises Invalid."""
    text = str(value)
    if '"' in text or "\n" in text:
        raise Invalid(f"{text!r} cannot stand in libvirt's configuration; choose another data directory")
    return f'"{text}"'


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogateescape")


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True

"""What this machine is to one cloud: who the host is, where its things are, and whose network namespace it works in.

Invariants: a host's id and directories are drawn once for a cloud's folder and stay; a network namespace serves one
cloud at a time, since an agent removes everything of Muster's there that its cloud does not know. That holds for
running clouds (a lock), and for what a killed one has left standing (its folder is written down).
"""

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from muster.base.durable import replace_file, sync_directory
from muster.base.errors import Conflict, Invalid
from muster.base.file_lock import take_lock
from muster.base.ids import new_uuid
from muster.host.namespace import Namespace, own_namespace
from muster.host.network.links import Links

RUNTIME = Path("/run/muster")
#: Of the directory of a private libvirtd: a socket's address has room for no more.
_DIRECTORY_BYTES = 84
_IDENTITY = "identity.json"


class Machine(Struct, frozen=True, kw_only=True):
    """The host of one cloud's folder. `namespace` is where it worked last."""

    host_id: str
    namespace: Namespace


class Layout(Struct, frozen=True):
    """Where the host's things are in a cloud's folder."""

    folder: Path

    @property
    def root(self) -> Path:
        """All of the host's own."""
        return self.folder / "host"

    @property
    def instances(self) -> Path:
        """A folder for each guest."""
        return self.root / "instances"

    @property
    def images(self) -> Path:
        """What guests' disks are clones of."""
        return self.root / "images"

    @property
    def network(self) -> Path:
        """DHCP servers' files."""
        return self.root / "network"

    def libvirtd(self, host_id: str, runtime: Path = RUNTIME) -> Path:
        """The private libvirtd's own: within the cloud's folder where its path is short enough for sockets."""
        inside = self.root / "libvirtd"
        return inside if len(os.fsencode(inside)) <= _DIRECTORY_BYTES else runtime / host_id


def check_is_here(host_ip: str) -> None:
    """Raises Invalid unless this is an address of this thread's network namespace: what comes to it must come here."""
    family = socket.AF_INET6 if ":" in host_ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host_ip, 0))
    except OSError as error:
        raise Invalid(
            f"host_ip {host_ip} is not an address of this machine ({error.strerror}); see: ip address show"
        ) from error


def known_machine(layout: Layout) -> Machine | None:
    """The host that this cloud's folder has had, if any. Raises Conflict when its record is damaged."""
    try:
        return msgspec.json.decode((layout.root / _IDENTITY).read_bytes(), type=Machine)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise Conflict(f"{layout.root / _IDENTITY} is damaged") from error


def this_machine(layout: Layout) -> Machine:
    """The host of this cloud's folder, in this thread's network namespace; made the first time."""
    layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    known = known_machine(layout)
    machine = Machine(host_id=known.host_id if known else new_uuid(), namespace=own_namespace())
    if machine != known:
        replace_file(layout.root / _IDENTITY, msgspec.json.encode(machine))
        sync_directory(layout.root)
    return machine


@contextlib.contextmanager
def claimed_namespace(layout: Layout, runtime: Path = RUNTIME) -> Iterator[None]:
    """This thread's network namespace is this cloud's alone meanwhile, and as long as something of it stands.

    Raises Conflict when another cloud's host runs here or has left something. One look at the interfaces.
    """
    runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = _locked(runtime / own_namespace().name)
    try:
        owner = _owner(file)
        if owner not in ("", str(layout.folder)) and _bridges_stand():
            raise Conflict(
                f"the network of the cloud in {owner} still stands in this network namespace; "
                f"remove it with: muster down --data {owner}"
            )
        os.ftruncate(file, 0)
        os.pwrite(file, os.fsencode(layout.folder), 0)
        yield
    finally:
        os.close(file)


def owns_namespace(layout: Layout, runtime: Path = RUNTIME) -> bool:
    """Whether what stands in this thread's network namespace is this cloud's."""
    try:
        return os.fsdecode((runtime / own_namespace().name).read_bytes()) == str(layout.folder)
    except FileNotFoundError:
        return False


def give_up_namespace(runtime: Path = RUNTIME) -> None:
    """Nothing stands in this thread's network namespace any more. To be called by who has claimed it."""
    (runtime / own_namespace().name).unlink(missing_ok=True)


def forget_libvirtd(layout: Layout, machine: Machine, runtime: Path = RUNTIME) -> None:
    """What a libvirtd that has ended left outside the cloud's folder is gone."""
    directory = layout.libvirtd(machine.host_id, runtime)
    if not directory.is_relative_to(layout.folder):
        shutil.rmtree(directory, ignore_errors=True)


def _locked(path: Path) -> int:
    """The file, locked, and still the one of that name. Raises Conflict."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        is_ours, owner = take_lock(file), _owner(file)
        if is_ours and os.fstat(file).st_nlink:
            return file
        os.close(file)
        if not is_ours:
            raise Conflict(f"the cloud in {owner} has its host in this network namespace")
        # It was given up by its owner in between.


def _owner(file: int) -> str:
    return os.fsdecode(os.pread(file, 4096, 0))


def _bridges_stand() -> bool:
    links = Links()
    try:
        return bool(links.bridges())
    finally:
        links.close()

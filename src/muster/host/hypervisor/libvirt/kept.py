"""Guests' folders that are put aside: the database does not know their servers, and somebody may want to save them.

Invariants: a folder is among the guests' or among the kept ones, whatever crashes (it is renamed, on one file system);
what is kept is nobody's guest, so nothing starts or removes it but `take_back`, its time, and an operator. Its time is
counted, not taken from the clock: a clock that is wrong for a moment removes nothing.
"""

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from muster.base.durable import replace_file, sync_directory
from muster.domain.specs import ServerSpec
from muster.host.hypervisor.libvirt.folder import Folder, folders

_ABOUT = "kept.json"
_GOING = ".removed-"


class Kept(Struct, frozen=True, kw_only=True):
    """Since when it is kept (Unix seconds), for how many seconds an agent has run since, and what was known of its
    server, which may be nothing."""

    kept_at: float
    kept_s: float = 0.0
    name: str = ""
    project_id: str = ""
    addresses: tuple[str, ...] = ()


class Shelf:
    """The folders of one host that are kept, in `kept` beside its guests' folders. All methods block."""

    def __init__(self, instances_dir: Path) -> None:
        self._guests = instances_dir.absolute()
        self.path = self._guests / "kept"

    def put(self, server_id: str, spec: ServerSpec | None, now: float) -> None:
        """A guest that does not run is kept from now on; one without a folder needs none. Raises OSError, Invalid."""
        folder = Folder(self._guests, server_id)
        if not folder.path.exists():
            return
        about = Kept(kept_at=now)
        if spec is not None:
            addresses = tuple(ip.ip_address for port in spec.ports for ip in port.fixed_ips)
            about = Kept(kept_at=now, name=spec.name, project_id=spec.project_id, addresses=addresses)
        (folder.path / _ABOUT).write_bytes(msgspec.json.encode(about))
        self.path.mkdir(mode=0o700, exist_ok=True)
        self.remove(server_id)  # of the same server nothing newer than this can be there
        folder.path.rename(self.path / server_id)
        sync_directory(self.path)
        sync_directory(self._guests)

    def take_back(self, server_id: str) -> bool:
        """It is a guest's folder again. Returns whether it was kept. Raises OSError. One call where it was not."""
        try:
            (self.path / server_id).rename(self._guests / server_id)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or (self._guests / server_id).exists():
                return False
            raise
        (self._guests / server_id / _ABOUT).unlink(missing_ok=True)
        sync_directory(self._guests)
        return True

    def all(self) -> Mapping[str, Kept]:
        """What is kept, by server."""
        return {folder.server_id: self._about(folder.path) for folder in self.folders()}

    def folders(self) -> list[Folder]:
        """The folders that are kept."""
        return list(folders(self.path))

    def remove(self, server_id: str) -> bool:
        """It is gone for good. Returns whether it was there. Raises OSError, Invalid."""
        going = self.path / f"{_GOING}{server_id}"
        try:
            Folder(self.path, server_id).path.rename(going)  # at once, whoever takes it back meanwhile
        except FileNotFoundError:
            return False
        shutil.rmtree(going)
        return True

    def age(self, by_s: float, keep_s: float) -> list[str]:
        """All were kept for so long more. Remove those whose `keep_s` are over, and what an earlier removal left.

        Returns the servers. Raises OSError. One fsync per folder.
        """
        late = []
        for server_id, about in self.all().items():
            older = replace(about, kept_s=about.kept_s + by_s)
            if older.kept_s >= keep_s:
                self.remove(server_id)
                late.append(server_id)
            else:
                with contextlib.suppress(OSError):  # taken back meanwhile, or the disk is full: it is kept for longer
                    replace_file(self.path / server_id / _ABOUT, msgspec.json.encode(older))
        for rest in self.path.glob(f"{_GOING}*") if self.path.exists() else ():
            shutil.rmtree(rest, ignore_errors=True)
        return late

    def _about(self, path: Path) -> Kept:
        try:
            return msgspec.json.decode((path / _ABOUT).read_bytes(), type=Kept)
        except (OSError, msgspec.MsgspecError):  # cut off by a crash
            return Kept(kept_at=path.stat().st_ctime)

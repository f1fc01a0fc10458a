"""A guest's folder: its disk, config drive, console, and the record of what they are.

Invariants: `record.json` is written last and atomically, so a folder with a record is complete, and one without is a
leftover that counts as having no disk; the record's nonces are those of the disk that is there and of the newest boot.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from muster.base.durable import replace_file, sync_directory
from muster.base.errors import Conflict, Invalid
from muster.base.ids import is_uuid

_RECORD = "record.json"
_MODE = 0o711
#: What a disk says of a file that it has lost; other errors pass, or concern all files.
_LOST = {errno.EIO, errno.EUCLEAN, errno.EBADMSG}


class Damaged(Conflict):
    """A record is there and cannot be read; only an operator can tell what is to be kept."""

    code = "muster.host.record_damaged"


class Record(Struct, frozen=True, kw_only=True):
    """What is in a folder. `base` is the image that the disk is a clone of, `image_sha512` its content."""

    boot_nonce: int
    disk_nonce: int
    base: str
    base_format: str
    image_sha512: str
    config_drive: bool = False


class Folder:
    """Paths and durable changes of one guest's folder. All methods block; none is safe beside another of its guest."""

    def __init__(self, instances_dir: Path, server_id: str) -> None:
        """Raises Invalid: what is not a UUID never becomes a file's name."""
        if not is_uuid(server_id):
            raise Invalid(f"{server_id!r} is not a UUID")
        self.server_id = server_id
        self.path = instances_dir.absolute() / server_id
        self.disk = self.path / "disk.qcow2"
        self.config_drive = self.path / "config.iso"
        self.console = self.path / "console.log"
        self.variables = self.path / "uefi-variables.fd"

    def make(self) -> None:
        """The folder exists. Its files are private; a QEMU that does not run as root must be able to get to its own."""
        self.path.parent.mkdir(mode=_MODE, parents=True, exist_ok=True)
        self.path.mkdir(mode=_MODE, exist_ok=True)

    def read(self) -> Record | None:
        """The record, or None when there is none. Raises Damaged: then a disk may be there that is worth saving."""
        try:
            record = msgspec.json.decode((self.path / _RECORD).read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in _LOST:
                raise
            raise Damaged(f"the record of server {self.server_id} on its host cannot be read: {error}") from error
        except msgspec.MsgspecError as error:
            raise Damaged(f"the record of server {self.server_id} on its host is damaged") from error
        return record

    def write(self, record: Record) -> None:
        """Replace the record, durably. Two fsyncs."""
        replace_file(self.path / _RECORD, msgspec.json.encode(record))
        sync_directory(self.path)

    def write_config_drive(self, image: bytes) -> None:
        """Replace the config drive; durable with the next `write`."""
        replace_file(self.config_drive, image)

    def clear_disk(self) -> None:
        """Nothing of an earlier disk is left, and no record that says so. Durable with the next `write`."""
        for path in (self.path / _RECORD, self.disk, self.variables):
            path.unlink(missing_ok=True)

    def remove(self) -> None:
        """The folder is gone. The record goes first: what a crash leaves is seen as a leftover."""
        (self.path / _RECORD).unlink(missing_ok=True)
        if self.path.exists():
            shutil.rmtree(self.path)


def folders(instances_dir: Path) -> Iterator[Folder]:
    """All folders of guests, complete or not."""
    try:
        entries = list(os.scandir(instances_dir))
    except FileNotFoundError:
        return
    for entry in entries:
        if is_uuid(entry.name) and entry.is_dir(follow_symlinks=False):
            yield Folder(instances_dir, entry.name)

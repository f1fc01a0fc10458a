"""A host's files through a root directory: `/`, or a copy of a machine's files.

Invariant: nothing found there raises. What cannot be read is kept with the reason; what is odd is kept as it is.
"""

import os
import sqlite3
import stat
from pathlib import Path
from urllib.parse import quote

from muster.doctor.facts import ABSENT, NOT_COPIED, Reading

_MOST_BYTES = 1 << 20
_KERNELS_TREES = ("/proc/sys", "/proc", "/sys")


class Tree:
    """The root directory. Absolute links are taken as the machine would take them: below the root."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)

    def _place(self, path: str) -> str:
        place = self._root.rstrip("/") + path
        if self._root == "/":
            return place
        real = os.path.realpath(place)
        if not f"{real}/".startswith(self._root + "/"):
            return self._root + real
        return real

    def read(self, path: str, most: int = _MOST_BYTES) -> Reading:
        """A file's text, of at most so many bytes; zeros, as between the arguments of a process, as line ends."""
        try:
            place = self._place(path)
            found = os.stat(place)
            if not stat.S_ISREG(found.st_mode):  # a FIFO would block
                return Reading(None, "not a file")
            with open(place, "rb") as file:
                text = file.read(most).decode(errors="replace").replace("\0", "\n")
            return Reading(text, written_s=found.st_mtime)
        except (FileNotFoundError, NotADirectoryError):
            return Reading(None, self._why_gone(path))
        except (OSError, ValueError) as error:
            return Reading(None, _reason(error))

    def _why_gone(self, path: str) -> str:
        """A file that the kernel would have made says something only where the copy has others of the same tree."""
        for tree in _KERNELS_TREES:
            if path.startswith(tree + "/") and not self.names(tree):
                return f"there is no {tree} in this copy"
        return ABSENT

    def names(self, path: str) -> list[str] | Reading:
        """What is in a folder; nothing where it is absent, the reason where it cannot be read."""
        try:
            return sorted(os.listdir(self._place(path)))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, ValueError) as error:
            return Reading(None, _reason(error))

    def named(self, path: str) -> list[str]:
        """The same where the reason does not matter."""
        names = self.names(path)
        return names if isinstance(names, list) else []

    def folder(self, path: str, endings: tuple[str, ...]) -> dict[str, Reading]:
        """The files of a folder by their endings; the folder itself where it cannot be read."""
        names = self.names(path)
        if isinstance(names, Reading):
            return {path: names}
        return {f"{path}/{name}": self.read(f"{path}/{name}") for name in names if name.endswith(endings)}

    def link(self, path: str) -> str:
        """Where a link leads; empty for what is none."""
        try:
            return os.readlink(self._root.rstrip("/") + path)
        except (OSError, ValueError):
            return ""

    def identity(self, path: str) -> tuple[int, int] | None:
        """What tells a file from all others; None for what is not there or not to be seen."""
        try:
            found = os.stat(self._place(path))
        except (OSError, ValueError):
            return None
        return found.st_dev, found.st_ino

    def blobs(self, path: str, query: str) -> list[bytes]:
        """What a query gives of a SQLite database, which is not written to, its journal included."""
        if self.read(path, 1).text is None:
            return []
        try:
            # immutable: without it a database in WAL mode gets files beside it.
            base = sqlite3.connect(f"file:{quote(self._place(path))}?mode=ro&immutable=1", uri=True)
            try:
                return [blob for (blob,) in base.execute(query) if isinstance(blob, bytes)]
            finally:
                base.close()
        except sqlite3.Error:
            return []

    def why_not_open(self, path: str) -> str:
        """Why a device does not open; empty if it does."""
        if not os.path.isdir(self._place("/dev")):
            return NOT_COPIED
        try:
            os.close(os.open(self._place(path), os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
        except (FileNotFoundError, NotADirectoryError):
            return ABSENT
        except OSError as error:
            return _reason(error)
        return ""


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return "permission denied; needs root"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)

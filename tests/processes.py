"""Which processes of this machine a test has left behind."""

import contextlib
import os
from pathlib import Path


def processes_of(folder: Path) -> list[str]:
    """The command lines that name the folder, of processes that run now."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            command = path.read_bytes()
            if os.fsencode(folder) in command:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found

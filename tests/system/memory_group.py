"""A control group with a limit of memory, for a host that has less than the machine; version 1 or 2 of groups."""

import contextlib
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_V1 = _ROOT / "memory"
_ENTER = 'for group; do case $group in /sys/*) echo $$ >"$group/cgroup.procs"; shift;; *) break;; esac; done; exec "$@"'
MIB = 2**20


class MemoryGroup:
    """`limited` makes one. Nobody is in it until a command is started with `prefix`."""

    def __init__(self, folder: Path, unified: Path, limit_mib: int) -> None:
        self._folder, self._unified = folder, unified
        self._is_v1 = folder.parent == _V1
        for one in {folder, unified}:
            one.mkdir()
        self._write("memory.limit_in_bytes" if self._is_v1 else "memory.max", limit_mib * MIB)
        if not self._is_v1:
            self._write("memory.swap.max", 0)

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command is started with to be in the group, with all that it starts."""
        return ("sh", "-c", _ENTER, "sh", *map(str, sorted({self._folder, self._unified})))

    def kills(self) -> int:
        """How many processes the kernel has killed in it for want of memory."""
        text = (self._folder / ("memory.oom_control" if self._is_v1 else "memory.events")).read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])

    def peak_mib(self) -> int:
        """The most that was in use, caches included."""
        name = "memory.max_usage_in_bytes" if self._is_v1 else "memory.peak"
        return int((self._folder / name).read_text()) // MIB

    def remove(self) -> None:
        """It is no more, once nobody is in it."""
        for one in {self._folder, self._unified}:
            for _ in range(100):
                with contextlib.suppress(OSError):
                    one.rmdir()
                if not one.exists():
                    break
                time.sleep(0.1)

    def _write(self, name: str, value: int) -> None:
        (self._folder / name).write_text(str(value))


def can_limit() -> bool:
    """Whether groups can be made on this machine."""
    if (_V1 / "memory.limit_in_bytes").exists():
        folders = [_V1, _ROOT / "unified"]
        return all(_is_writable(folder) for folder in folders)
    return "memory" in (_ROOT / "cgroup.subtree_control").read_text().split() and _is_writable(_ROOT)


@contextmanager
def limited(limit_mib: int) -> Iterator[MemoryGroup]:
    """A group with that limit, and its pressure told; removed at the end."""
    name = f"muster-test-{uuid.uuid4().hex[:8]}"
    is_v1 = (_V1 / "memory.limit_in_bytes").exists()
    folder, unified = (_V1 / name, _ROOT / "unified" / name) if is_v1 else (_ROOT / name, _ROOT / name)
    group = MemoryGroup(folder, unified, limit_mib)
    try:
        yield group
    finally:
        group.remove()


def _is_writable(folder: Path) -> bool:
    probe = folder / f"muster-probe-{uuid.uuid4().hex[:8]}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError:
        return False
    return True

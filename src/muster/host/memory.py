"""What memory a host has, and how much of it can still be taken before the kernel kills something.

A host that runs in a control group with a limit (a container, a slice) has no more than that, whatever the machine
has: the tightest group on the way to the root counts. Sources: Linux's documentation of proc, cgroup-v1 memory,
cgroup-v2 and psi.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from msgspec import Struct

from muster.base.units import KIB, MIB


class Memory(Struct, frozen=True, kw_only=True):
    """One look. `available_mib` is what can be taken without swapping or killing: free, or cache that is not in use.

    `stalled` is the share (0 to 1) of the last ten seconds in which some task waited for memory; 0 where the kernel
    does not tell.
    """

    total_mib: int
    available_mib: int
    stalled: float = 0.0


# None: this machine does not tell.
ReadMemory = Callable[[], Memory | None]


class _Group(Struct, frozen=True):
    """The names of one version's files. `reclaimable` is the key in memory.stat of cache that nobody used lately."""

    limit: str
    usage: str
    reclaimable: str


_V1 = _Group("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_V2 = _Group("memory.max", "memory.current", "inactive_file")


class MemoryReader:
    """Looks at the machine and at the control groups of this process, under `root`. A look is about six small files."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = root / "proc"
        self._root = root

    def __call__(self) -> Memory | None:
        """What there is now; None where the kernel does not tell."""
        try:
            values = _values((self._proc / "meminfo").read_text())
            whole, available = values["MemTotal:"] // KIB, values["MemAvailable:"] // KIB
        except (OSError, ValueError, KeyError):
            return None
        total = whole
        stalled = _stalled(self._proc / "pressure" / "memory")
        for folder, names in self._groups():
            stalled = max(stalled, _stalled(folder / "memory.pressure"))
            found = _group(folder, names, below_mib=whole)
            if found is not None:
                total, available = min(total, found[0]), min(available, found[1])
        return Memory(total_mib=total, available_mib=max(0, available), stalled=stalled)

    def _groups(self) -> Iterator[tuple[Path, _Group]]:
        """The groups that this process is in, each with those above it, as far as they are mounted here."""
        try:
            own = (self._proc / "self" / "cgroup").read_text().splitlines()
            mounts = [line.split() for line in (self._proc / "self" / "mountinfo").read_text().splitlines()]
        except OSError:
            return
        for line in own:
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            is_v2 = controllers == ""
            if not is_v2 and "memory" not in controllers.split(","):
                continue
            for mount in mounts:
                if _is_mount(mount, is_v2=is_v2) and PurePosixPath(path).is_relative_to(mount[3]):
                    yield from self._upwards(mount, path, _V2 if is_v2 else _V1)
                    break

    def _upwards(self, mount: list[str], path: str, names: _Group) -> Iterator[tuple[Path, _Group]]:
        top = self._root / mount[4].lstrip("/")
        folder = top / PurePosixPath(path).relative_to(mount[3])
        while folder != top:
            yield folder, names
            folder = folder.parent
        yield top, names


def _is_mount(fields: list[str], *, is_v2: bool) -> bool:
    """Whether a line of mountinfo is a mount of control groups that count memory; see proc(5)."""
    kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
    return kind == "cgroup2" if is_v2 else kind == "cgroup" and "memory" in options


def _group(folder: Path, names: _Group, *, below_mib: int) -> tuple[int, int] | None:
    """A group's limit and what is left of it, in MiB; None without a limit below that."""
    try:
        limit = (folder / names.limit).read_text().strip()
        if limit == "max" or int(limit) // MIB >= below_mib:
            return None
        used = int((folder / names.usage).read_text())
        cache = _values((folder / "memory.stat").read_text()).get(names.reclaimable, 0)
        return int(limit) // MIB, (int(limit) - used + cache) // MIB
    except (OSError, ValueError):
        return None


def _values(text: str) -> Mapping[str, int]:
    """`name value` by lines, as in meminfo and memory.stat; a unit behind is left to the caller."""
    words = (line.split() for line in text.splitlines())
    return {found[0]: int(found[1]) for found in words if len(found) > 1}


def _stalled(path: Path) -> float:
    try:
        line = path.read_text().splitlines()[0]
        values = dict(word.split("=", 1) for word in line.split()[1:])
        return float(values["avg10"]) / 100 if line.startswith("some ") else 0.0
    except (OSError, ValueError, IndexError, KeyError):
        return 0.0

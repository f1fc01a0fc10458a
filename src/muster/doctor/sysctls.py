"""`--fix`: kernel settings, written to a file of Muster's own and applied; what was there before stands in the file.

Invariant: nothing else is changed, and values are only what checks asked for. A setting that is set here already keeps
the value it had before the first time, so that one file is enough to take all of it back.
"""

import os
import re
from pathlib import Path

from msgspec import Struct

from muster.base.errors import Invalid
from muster.doctor.facts import Facts, sysctl_path
from muster.doctor.findings import Finding
from muster.doctor.tree import Tree

FILE = "/etc/sysctl.d/90-muster.conf"
_HEAD = "# Written by `muster doctor --fix`. To take it back: delete this file and set what each line had before.\n"
_FOLDERS = ("/usr/lib/sysctl.d", "/usr/local/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d")
_SET = re.compile(r"^[ \t]*-?[ \t]*([\w.-]+)[ \t]*=", re.MULTILINE)
_LINE = re.compile(r"^([a-z0-9_.-]+) = (\d+)  # was (\d+)$", re.MULTILINE)


class Change(Struct, frozen=True, kw_only=True):
    """One setting; `error` says why it is in the file and not in force."""

    name: str
    before: int
    after: int
    error: str = ""

    @property
    def back(self) -> str:
        """The command that takes it back, until the next boot."""
        return f"sysctl -w {self.name}={self.before}"


def wanted(findings: list[Finding], facts: Facts) -> list[Change]:
    """What the findings ask for and is not so yet, by name."""
    asked: dict[str, int] = {}
    for finding in findings:
        asked |= finding.sysctls
    return [
        Change(name=name, before=before, after=after)
        for name, after in sorted(asked.items())
        if (before := facts.sysctl(name)) is not None and before != after
    ]


def apply(changes: list[Change], root: Path) -> list[Change]:
    """Write the file, then each setting. Gives what was changed. Raises Invalid when the file cannot be written."""
    _write_file(changes, root)
    return [_applied(change, root) for change in _in_order(changes)]


def overruled(changes: list[Change], root: Path) -> dict[str, str]:
    """Which of these settings other files set as well that are read later at boot (sysctl.d(5)): name to file."""
    tree = Tree(root)
    files = [file for folder in _FOLDERS for file in tree.folder(folder, (".conf",)).items()]
    return {
        name: path
        for path, reading in files
        if path.rpartition("/")[2] > FILE.rpartition("/")[2]
        for name in _SET.findall((reading.text or "").replace("/", "."))
        if name in {change.name for change in changes}
    }


def _in_order(changes: list[Change]) -> list[Change]:
    """The thresholds of neighbours from the highest on: at no moment is a lower one above a higher one."""
    return sorted(changes, key=lambda change: change.name, reverse=True)


def _applied(change: Change, root: Path) -> Change:
    try:
        _below(root, sysctl_path(change.name)).write_text(f"{change.after}\n", encoding="ascii")
    except OSError as error:
        return Change(name=change.name, before=change.before, after=change.after, error=error.strerror or str(error))
    return change


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _write_file(changes: list[Change], root: Path) -> None:
    path = _below(root, FILE)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        known = _known(path)
        for change in changes:
            known[change.name] = (change.after, known.get(change.name, (0, change.before))[1])
        text = _HEAD + "".join(f"{name} = {after}  # was {was}\n" for name, (after, was) in sorted(known.items()))
        new = path.with_name(path.name + ".new")
        new.write_text(text, encoding="ascii")
        os.chmod(new, 0o644)
        new.replace(path)
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}; run: sudo muster doctor --fix") from error


def _known(path: Path) -> dict[str, tuple[int, int]]:
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith(_HEAD):
        raise Invalid(f"{path} is there, and is not this command's; move it away first")
    return {name: (int(after), int(was)) for name, after, was in _LINE.findall(text)}

"""`scripts/install` decides anew what is missing, whatever an earlier run of it found; over fakes of what it calls."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("scripts/install", "requirements/lock.txt", "pyproject.toml")

# Each fake notes what it was asked in the file `log` and answers from files beside it, where a test writes what is so.
FAKES = {
    "id": 'cat "$STATE/uid"',
    "dpkg-query": 'for name; do grep -qx "$name" "$STATE/debian" && echo "installed $name"; done; exit 1',
    "apt-get": 'echo "apt-get $*" >> "$STATE/log"; [ "$1" = install ] || exit 0; '
    'for name; do [ "${name#-}" = "$name" ] && echo "$name" >> "$STATE/debian"; done; '
    'grep -qx libvirt-dev "$STATE/debian" && echo 9.0.0 > "$STATE/libvirt"; exit 0',
    "pkg-config": 'cat "$STATE/libvirt"',
    "python3.11": 'echo "venv $*" >> "$STATE/log"; mkdir -p "$3/bin"; cp "$STATE/pip" "$3/bin/python"',
}
PIP = """#!/bin/sh
echo "pip $*" >> "$STATE/log"
for word; do case $word in *lock.txt) cat "$word" > "$STATE/lock";; esac; done
"""


class Machine:
    """A copy of the tree, and a machine that is what its files say."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.state, self._bin = folder / "tree", folder / "state", folder / "bin"
        for part in PARTS:
            (self.tree / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / part, self.tree / part)
        self.state.mkdir()
        self._bin.mkdir()
        self._executable(self.state / "pip", PIP)
        for name, text in FAKES.items():
            self._executable(self._bin / name, f"#!/bin/sh\n{text}\n")
        self.set(uid="0", debian="")

    def set(self, **files: str) -> None:
        for name, text in files.items():
            (self.state / name).write_text(text + "\n")

    def install(self) -> list[str]:
        """Run the script; what it had done by others."""
        (self.state / "log").write_text("")
        environment = {
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "STATE": str(self.state),
            "POLICY_RC_D": str(self.state / "policy"),
        }
        done = subprocess.run(
            [self.tree / "scripts/install"], env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert not (self.state / "policy").exists(), "services would stay forbidden"
        return (self.state / "log").read_text().splitlines()

    @property
    def has_libvirt_python(self) -> bool:
        return "libvirt-python==" in (self.state / "lock").read_text()

    @staticmethod
    def _executable(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def _of(log: list[str], *words: str) -> list[str]:
    return [line for line in log if line.startswith(words)]


def test_all_once_and_then_nothing(machine: Machine) -> None:
    first = machine.install()
    [installed] = _of(first, "apt-get install")
    assert {"libvirt-dev", "postgresql", "etcd-server"} <= set(installed.split())
    assert len(_of(first, "venv")) == 1
    assert len(_of(first, "pip")) == 2
    assert machine.has_libvirt_python
    assert machine.install() == []


def test_what_a_run_without_root_left_out_a_later_one_as_root_installs(machine: Machine) -> None:
    machine.set(uid="1000")
    assert _of(machine.install(), "apt-get") == []
    assert not machine.has_libvirt_python
    assert machine.install() == []
    machine.set(uid="0")
    later = machine.install()
    assert "libvirt-dev" in _of(later, "apt-get install")[0].split()
    assert len(_of(later, "pip")) == 2
    assert machine.has_libvirt_python
    assert machine.install() == []


def test_headers_that_come_later_bring_libvirts_python_package(machine: Machine) -> None:
    machine.set(uid="1000")
    machine.install()
    assert not machine.has_libvirt_python
    machine.set(libvirt="9.0.0")
    assert len(_of(machine.install(), "pip")) == 2
    assert machine.has_libvirt_python


def test_a_debian_package_that_went_away_comes_back_and_no_other(machine: Machine) -> None:
    machine.install()
    packages = (machine.state / "debian").read_text().splitlines()
    machine.set(debian="\n".join(name for name in packages if name != "nftables"))
    log = machine.install()
    assert _of(log, "apt-get install")[0].split()[-1:] == ["nftables"]
    assert _of(log, "pip", "venv") == []

"""`make up` and `make down` as a newcomer has them: their scripts, and the commands that they print.

The scripts are copies beside an environment that is this one: the tests' own is not installed anew.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.openstack_command import openstack_command
from tests.processes import processes_of

from benchmarks.free_ports import free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300


class Checkout:
    """A folder with the scripts, where `scripts/install` has nothing to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "elsewhere" / "cloud"
        for name in ("up", "down"):
            self._executable(f"scripts/{name}", (ROOT / "scripts" / name).read_text())
        self._executable("scripts/install", "#!/bin/sh\nexit 0\n")
        python = shlex.quote(sys.executable)
        self._executable(".venv/bin/python", f'#!/bin/sh\nexec {python} "$@"\n')
        self._executable(".venv/bin/muster", f'#!/bin/sh\nexec {python} -m muster "$@"\n')

    def _executable(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(self, script: str, **environment: str) -> str:
        """What the script said; it must succeed."""
        done = subprocess.run(
            [self.folder / "scripts" / script],
            env={**os.environ, "DATA": str(self.data), "SIM_ONLY": "1", "SIM_HOSTS": "2", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    one = Checkout(tmp_path / "checkout")
    yield one
    one.run("down")
    assert processes_of(one.folder) == []


def test_what_they_print_works_and_the_state_outlives_them(checkout: Checkout, tmp_path: Path) -> None:
    port = free_port()
    said = checkout.run("up", PORT=str(port))
    assert f"Muster is ready at http://127.0.0.1:{port}" in said
    assert f"the state stays in {checkout.data}" in said
    [exported] = re.findall(r"^  export (PATH=.*)$", said, re.M)
    settings = dict(word.split("=", 1) for word in shlex.split(exported))
    path = settings.pop("PATH").split(":")[0]
    assert shutil.which("muster", path=path) == str(checkout.folder / ".venv/bin/muster")
    [create] = re.findall(r"^  openstack (server create .*) vm1$", said, re.M)
    with openstack_command(tmp_path / "home", settings) as openstack:
        assert openstack.json(f"{create} vm1")["status"] == "ACTIVE"
        assert "is running already" in checkout.run("up", PORT=str(port))
        assert "Stopped: muster" in checkout.run("down")
        assert processes_of(checkout.folder) == []
        checkout.run("up", PORT=str(port))
        assert [server["Name"] for server in openstack.json("server list")] == ["vm1"]


def test_without_a_cloud_there_is_nothing_to_stop(checkout: Checkout) -> None:
    assert f"There is no cloud in {checkout.data}" in checkout.run("down")

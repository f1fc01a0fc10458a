"""Two clouds never share a data folder, and one that is gone leaves it free."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from muster.base.errors import Conflict, Invalid
from muster.cli.data_folder import held, stop_owner


def test_a_folder_is_held_once_and_free_again(tmp_path: Path) -> None:
    folder = tmp_path / "cloud"
    with held(folder):
        assert folder.stat().st_mode & 0o077 == 0
        with pytest.raises(Conflict, match="Another muster runs"), held(folder):
            pass
    with held(folder):
        pass


HOLD = """
import sys, time
from pathlib import Path
from muster.cli.data_folder import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_process_that_has_a_folder_can_be_ended(tmp_path: Path) -> None:
    assert not stop_owner(tmp_path, 30)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(Conflict, match=f"process {process.pid}"), held(tmp_path):
            pass
        assert stop_owner(tmp_path, 30)
        assert process.wait(30) == -signal.SIGTERM
    assert not stop_owner(tmp_path, 30)
    with held(tmp_path):
        pass


def test_what_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match="cannot be used"), held(tmp_path / "file" / "cloud"):
        pass

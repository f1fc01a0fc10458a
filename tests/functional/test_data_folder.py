"""Two clouds never share a data folder, and one that is gone leaves it free."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from muster.base.errors import Conflict, Invalid
from muster.cli.data_folder import held, stop_owner
from tests.commands import running


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
from tests.commands import running
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_process_that_has_a_folder_can_be_ended(tmp_path: Path) -> None:
    assert not stop_owner(tmp_path, 300)
    with running(sys.executable, "-c", HOLD, str(tmp_path), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(Conflict, match=f"process {process.pid}"), held(tmp_path):
            pass
        assert stop_owner(tmp_path, 300)
        assert process.wait(300) == -signal.SIGTERM
    assert not stop_owner(tmp_path, 300)
    with held(tmp_path):
        pass


def test_what_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match="cannot be used"), held(tmp_path / "file" / "cloud"):
        pass


def test_what_was_there_before_becomes_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "notes").write_text("another's")
    database = tmp_path / "muster.db"
    database.touch(0o644)
    before = os.umask(0o022)
    try:
        with held(tmp_path):
            (tmp_path / "new").touch()
        assert os.umask(0o022) == 0o022  # as it was
    finally:
        os.umask(before)
    assert _open_to_others(tmp_path) == {tmp_path / "notes"}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755  # it is not the cloud's alone


def test_a_cloud_in_a_folder_that_was_open_to_all_keeps_its_secrets(tmp_path: Path) -> None:
    """`muster up` itself, under the usual umask: the database has password hashes, clouds.yaml a password."""
    folder = tmp_path / "cloud"
    folder.mkdir()
    folder.chmod(0o755)
    command = [sys.executable, "-m", "muster", "up", "--data", str(folder), "--port", "0", "--sim-hosts", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, umask=0o022) as process:
        try:
            assert process.stdout is not None
            assert b"Muster is ready" in process.stdout.readline()
            found = {path.name for path in folder.iterdir()}
            assert found >= {"muster.db", "muster.db-wal", "muster.db-shm", "clouds.yaml", "admin-password"}
            assert _open_to_others(folder) == set()
            for name in ("muster.db", "clouds.yaml", "admin-password"):
                assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        finally:
            process.terminate()
            process.wait(300)


def _open_to_others(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.stat().st_mode & 0o077}

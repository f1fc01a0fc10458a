"""Paths that cannot even be looked at, and interruptions, as commands tell them: in a line, and without a stack."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from muster.base.errors import Invalid
from muster.cli import lab
from muster.cli.main import main
from muster.lab import site

# No stat(2) of it ends well, for root neither: to others a path below a folder of somebody else is the same.
TOO_LONG = "x" * 300


@pytest.mark.parametrize(
    "command",
    ["down --data", "lab down --data", "lab status --data", "soak clean --data", "doctor --root", "up --port 0 --data"],
)
def test_a_path_that_cannot_be_looked_at_is_told_in_a_line(tmp_path: Path, command: str) -> None:
    result = CliRunner().invoke(main, [*command.split(), str(tmp_path / TOO_LONG)])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code in (1, 2)
    assert TOO_LONG in result.output


def test_a_file_is_no_lab(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["lab", "status", "--data", str(tmp_path / "file")])
    assert "there is no lab in" in result.output


def test_a_lab_of_roots_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(Invalid, match="Permission denied; a lab is root's: use sudo"):
        site.load(tmp_path, {})


@pytest.fixture
def _signals() -> Iterator[None]:
    """Those that `muster lab up` takes are as before afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
def test_only_what_takes_down_what_it_made_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`muster lab start`, interrupted, said that what was made is gone; and the terminal's end left half a lab."""

    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(60)

    def as_by_ctrl_c(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lab, "planned", interrupted)
    monkeypatch.setattr(lab, "_lab", as_by_ctrl_c)
    said = CliRunner().invoke(main, ["lab", "up", "--data", str(tmp_path / "lab")])
    assert "Interrupted; what was made is gone." in said.output
    said = CliRunner().invoke(main, ["lab", "start", "rabbitmq", "--data", str(tmp_path / "lab")])
    assert "Interrupted." in said.output
    assert "gone" not in said.output


def test_a_full_disk_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "lab.json"))

    monkeypatch.setattr(lab, "_lab", full)
    said = CliRunner().invoke(main, ["lab", "start", "rabbitmq", "--data", str(tmp_path)])
    assert said.exit_code == 1
    assert f"No space left on device: {tmp_path}/lab.json" in said.output

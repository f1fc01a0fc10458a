"""`muster kept` shows and removes what a host keeps of guests that no database knows."""

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from muster.cli.main import main
from muster.host.hypervisor.libvirt.kept import Kept
from muster.host.machine import Layout

OLDER, YOUNGER = "0b6bb2f4-7c9a-4f3c-b7a8-0f2f4a6f1c11", "f3c9f8a0-2f2e-4a53-9d5e-6b1d0c9c2b22"


def kept(data: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["kept", "--data", str(data), *arguments])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A host's folder with two guests on its shelf; of the longer kept one nothing is known but its disk."""
    shelf = Layout(tmp_path).instances / "kept"
    known = Kept(kept_at=90_000.0, name="web", project_id="p1", addresses=("10.0.0.5", "fd00::5"))
    for server_id, about in ((YOUNGER, known), (OLDER, Kept(kept_at=3_600.0))):
        folder = shelf / server_id
        folder.mkdir(parents=True)
        (folder / "kept.json").write_bytes(msgspec.json.encode(about))
        (folder / "disk.qcow2").write_bytes(b"\1" * 3 * 2**20)
    return tmp_path


def test_people_see_a_table_and_where_the_disks_are(data: Path) -> None:
    said = kept(data)
    assert said.exit_code == 0, said.output
    lines = said.output.splitlines()
    [older] = [line for line in lines if line.split()[:1] == [OLDER]]
    [younger] = [line for line in lines if line.split()[:1] == [YOUNGER]]
    assert lines.index(older) < lines.index(younger)
    assert older.split() == [OLDER, "3", "1970-01-01", "01:00"]
    assert younger.split()[1:] == ["3", "1970-01-02", "01:00", "web", "10.0.0.5"]
    assert lines[lines.index(younger) + 1].split() == ["fd00::5"]
    assert f"{data}" in lines[-1]


def test_scripts_read_json(data: Path) -> None:
    older, younger = json.loads(kept(data, "--json").output)
    assert (older["server_id"], older["since"], older["mib"], older["addresses"]) == (OLDER, 3600.0, 3, [])
    assert Path(younger["disk"]).stat().st_size == 3 * 2**20
    assert (younger["name"], younger["project_id"], younger["addresses"]) == ("web", "p1", ["10.0.0.5", "fd00::5"])


def test_one_is_removed(data: Path) -> None:
    assert kept(data, "--remove", OLDER).output == ""
    assert [guest["server_id"] for guest in json.loads(kept(data, "--json").output)] == [YOUNGER]
    refused = kept(data, "--remove", OLDER)
    assert refused.exit_code == 1
    assert f"Not kept here: {OLDER}" in refused.output


def test_nothing_is_kept(tmp_path: Path) -> None:
    Layout(tmp_path).root.mkdir()
    assert kept(tmp_path).output == "No guest is kept here.\n"
    assert json.loads(kept(tmp_path, "--json").output) == []


def test_a_folder_of_no_host_is_not_called_empty(tmp_path: Path) -> None:
    """Who names a wrong folder would believe that nothing is kept."""
    said = kept(tmp_path)
    assert said.exit_code == 1
    assert "No host has its folder at" in said.output

"""A file is replaced by one that is whole and on the disk, before it has its name."""

import os
from pathlib import Path

import pytest

from muster.base.durable import replace_file, sync_directory


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was synced and replaced, by name and in order; a synced file with its size."""
    found: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(file: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{file}"))
        found.append(f"sync {path.name}" if path.is_dir() else f"sync {path.name} {path.stat().st_size}")
        fsync(file)

    def replaced(old: Path, new: Path) -> Path:
        found.append(f"replace {new.name}")
        return replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    return found


def test_it_is_whole_on_the_disk_before_it_has_its_name(tmp_path: Path, steps: list[str]) -> None:
    path = tmp_path / "file"
    for content in (b"before", b"content" * 10_000):
        replace_file(path, content)
        sync_directory(tmp_path)
        assert path.read_bytes() == content
        assert steps == [f"sync file.new {len(content)}", "replace file", f"sync {tmp_path.name}"]
        steps.clear()
    assert path.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    replace_file(path, b"before")

    def refuse(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        replace_file(path, b"after")
    assert path.read_bytes() == b"before"


def test_nobodys_link_is_written_through_and_nobodys_mode_is_kept(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    other.write_bytes(b"another's")
    (tmp_path / "file.new").symlink_to(other)
    replace_file(path, b"mine")
    assert (path.read_bytes(), other.read_bytes()) == (b"mine", b"another's")
    (tmp_path / "file.new").touch(mode=0o666)
    replace_file(path, b"mine")
    assert path.stat().st_mode & 0o077 == 0

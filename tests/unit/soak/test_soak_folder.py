"""What was counted outlives the process, once, whatever moment it died at."""

import errno
import os
from pathlib import Path

import pytest

from muster.base.errors import Conflict, Invalid
from muster.soak.folder import JOURNAL, STATE, Environment, Folder, Saved, load, opened
from muster.soak.scenario import Scenario
from muster.soak.statistics import Done, Life

ENVIRONMENT = Environment("cloud", None, "http://c", "2026-11-27T05:00:00Z")


def saved() -> Saved:
    return Saved(run="01234567", scenario=Scenario(), environment=ENVIRONMENT)


def operations(found: Saved | None) -> int:
    assert found is not None
    return sum(row.ok.count for rows in found.statistics.rows.values() for row in rows.values())


def test_what_happened_after_the_last_save_is_counted(tmp_path: Path) -> None:
    one = saved()
    with opened(tmp_path) as folder:
        folder.save(one)
        folder.note(one, Done(3.0, "create", "a", 1.0))
        folder.note(one, Life(4.5, "begun"))
    found = load(tmp_path)
    assert operations(found) == 1
    assert found is not None
    assert (found.active_s, found.noted, found.statistics.lives) == (4.5, 2, {"begun": 1})


def test_a_line_that_was_not_finished_counts_nothing(tmp_path: Path) -> None:
    one = saved()
    with opened(tmp_path) as folder:
        folder.save(one)
        for _ in range(2):
            folder.note(one, Done(3.0, "create", "a", 1.0))
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-9])
    assert operations(load(tmp_path)) == 1


def test_what_is_in_the_counters_and_in_the_journal_counts_once(tmp_path: Path) -> None:
    """As when the process dies after the counters were replaced and before the journal was."""
    one = saved()
    with opened(tmp_path) as folder:
        folder.save(one)
        folder.note(one, Done(3.0, "create", "a", 1.0))
        journal = (tmp_path / JOURNAL).read_bytes()
        folder.save(one)
        (tmp_path / JOURNAL).write_bytes(journal)
    assert operations(load(tmp_path)) == 1


def test_going_on_goes_on_with_the_numbers(tmp_path: Path) -> None:
    one = saved()
    with opened(tmp_path) as folder:
        folder.save(one)
        folder.note(one, Done(3.0, "create", "a", 1.0))
    with opened(tmp_path) as folder:
        again = folder.load()
        assert again is not None
        folder.note(again, Done(4.0, "create", "a", 1.0))
    assert operations(load(tmp_path)) == 2


def test_what_was_saved_outlives_a_loss_of_power(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is on the disk before it takes the place of what was saved before, and the journal is kept until then."""
    one, synced = saved(), []

    def sync(file: int) -> None:
        state, journal = tmp_path / STATE, tmp_path / JOURNAL
        sizes = [path.stat().st_size if path.exists() else 0 for path in (state, journal)]
        synced.append((os.readlink(f"/proc/self/fd/{file}"), *(size > 0 for size in sizes)))

    with opened(tmp_path) as folder:
        monkeypatch.setattr(os, "fsync", sync)
        folder.save(one)
        folder.note(one, Done(3.0, "create", "a", 1.0))
        folder.save(one)
    new, here = str(tmp_path / (STATE + ".new")), str(tmp_path)
    assert synced == [(new, False, False), (here, True, False), (new, True, True), (here, True, True)]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(Conflict, match="another"), opened(tmp_path):
        pass
    with opened(tmp_path / "deep" / "er") as folder:
        assert folder.load() is None
        assert folder.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"{}", b"no json"])
def test_what_is_no_soaks_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATE).write_bytes(content)
    with pytest.raises(Invalid, match=STATE):
        Folder(tmp_path).load()


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = saved()
    with opened(tmp_path) as folder:
        (tmp_path / JOURNAL).symlink_to("/dev/full")
        folder.save(one)
        with pytest.raises(Invalid, match="No space left on device"):
            folder.note(one, Life(4.5, "begun"))

        def full(_file: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(Invalid, match="No space left on device"):
            folder.save(one)


def test_a_place_where_no_folder_can_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Invalid, match="cannot be used"), opened(tmp_path / "file" / "folder"):
        pass

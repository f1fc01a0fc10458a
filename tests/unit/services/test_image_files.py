"""The image folder, where a file gets or loses its name between being opened and being locked."""

from collections.abc import Callable
from pathlib import Path

import pytest

from muster.base.file_lock import take_lock
from muster.base.ids import new_uuid
from muster.services import image_files
from muster.services.image_files import ImageFiles


@pytest.fixture
def before_the_lock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has something done, once, right before the next lock is taken."""

    def arrange(work: Callable[[], object]) -> None:
        def take(descriptor: int) -> bool:
            monkeypatch.setattr(image_files, "take_lock", take_lock)
            work()
            return take_lock(descriptor)

        monkeypatch.setattr(image_files, "take_lock", take)

    return arrange


async def test_a_copy_that_was_just_finished_is_not_begun_again(tmp_path: Path, before_the_lock) -> None:
    """Its file has the image's name by now: emptying it would take an image away."""
    files, image_id = ImageFiles(tmp_path), new_uuid()
    partial, whole = tmp_path / f"{image_id}.fetch.part", tmp_path / image_id
    partial.write_bytes(b"whole")
    before_the_lock(lambda: partial.rename(whole))
    assert await files.receive_copy(image_id) is None
    assert whole.read_bytes() == b"whole"


async def test_a_file_that_took_the_place_of_another_is_not_cleared(tmp_path: Path, before_the_lock) -> None:
    files, image_id = ImageFiles(tmp_path), new_uuid()
    whole, other = tmp_path / image_id, tmp_path / "other"
    whole.write_bytes(b"old")
    other.write_bytes(b"new")
    before_the_lock(lambda: other.rename(whole))
    assert not await files.clear(image_id, whole=True)
    assert whole.read_bytes() == b"new"
    assert await files.clear(image_id, whole=True)
    assert not whole.exists()


async def test_what_is_published_takes_nothing_of_its_old_name_along(tmp_path: Path) -> None:
    """Another copy may have been begun under the temporary name meanwhile."""
    files, image_id = ImageFiles(tmp_path), new_uuid()
    first = await files.receive_copy(image_id)
    assert first is not None
    await first.write(b"1")
    await first.publish()
    second = await files.receive_copy(image_id)
    assert second is not None
    await first.discard()
    assert {path.name for path in tmp_path.iterdir()} == {image_id, f"{image_id}.fetch.part"}
    await second.discard()
    assert {path.name for path in tmp_path.iterdir()} == {image_id}

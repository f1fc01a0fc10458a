"""The key repository: permissions, rotation, and several processes at once."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import InvalidToken

from muster.base.errors import Bug, Invalid
from muster.services.token_keys import KeyRepository, fernet


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory), key=int)


def test_first_start_makes_private_keys(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "keys"
    repository = KeyRepository(directory)
    repository.prepare()

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert names(directory) == ["0", "1"]
    assert {stat.S_IMODE((directory / name).stat().st_mode) for name in names(directory)} == {0o600}
    keys = repository.load()
    assert keys[0] == (directory / "1").read_bytes()
    assert keys[1] == (directory / "0").read_bytes()
    repository.prepare()
    assert repository.load() == keys


def test_an_open_directory_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    directory.mkdir()
    directory.chmod(0o755)
    with pytest.raises(Invalid):
        KeyRepository(directory).prepare()
    assert os.listdir(directory) == []


def test_a_token_lives_through_as_many_rotations_as_there_are_keys(tmp_path: Path) -> None:
    repository = KeyRepository(tmp_path / "keys", max_active_keys=3)
    repository.prepare()
    staged = repository.load()[-1]
    sealed = fernet(repository.load()).encrypt(b"x")

    repository.rotate()
    assert names(tmp_path / "keys") == ["0", "1", "2"]
    assert repository.load()[0] == staged
    assert fernet(repository.load()).decrypt(sealed) == b"x"
    repository.rotate()
    assert names(tmp_path / "keys") == ["0", "2", "3"]
    with pytest.raises(InvalidToken):
        fernet(repository.load()).decrypt(sealed)


def test_whoever_has_not_heard_of_a_rotation_opens_new_tokens(tmp_path: Path) -> None:
    repository = KeyRepository(tmp_path / "keys")
    repository.prepare()
    old = fernet(repository.load())
    repository.rotate()
    assert old.decrypt(fernet(repository.load()).encrypt(b"x")) == b"x"


def test_a_rotation_that_was_interrupted_is_made_up_for(tmp_path: Path) -> None:
    repository = KeyRepository(tmp_path / "keys")
    repository.prepare()
    os.rename(tmp_path / "keys" / "0", tmp_path / "keys" / "2")  # and then the power failed
    assert len(repository.load()) == 2
    repository.prepare()
    assert names(tmp_path / "keys") == ["0", "1", "2"]
    repository.rotate()
    assert names(tmp_path / "keys") == ["0", "2", "3"]


def test_many_first_starts_at_once_agree(tmp_path: Path) -> None:
    def start(_number: int) -> tuple[bytes, ...]:
        repository = KeyRepository(tmp_path / "keys")
        repository.prepare()
        return repository.load()

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(start, range(8)))) == 1


def test_bad_repositories(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        KeyRepository(tmp_path, max_active_keys=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Bug):
        KeyRepository(tmp_path / "empty").load()
    with pytest.raises(Invalid):
        fernet((b"too short",))

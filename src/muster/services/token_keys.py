"""The keys that seal tokens: files in a directory, laid out and rotated as Keystone does.

Each file's name is a number. The highest is the primary key, which seals; 0 is staged, the next primary; the others
are secondary. All of them open tokens, so a key is known everywhere before the first token is sealed with it, and as
long as tokens sealed with it live.
"""

import os
from pathlib import Path

from cryptography.fernet import Fernet, MultiFernet

from muster.base.errors import Bug, Invalid
from muster.base.ids import new_hex

STAGED = 0


class KeyRepository:
    """A directory of keys, mode 0700, files 0600. All methods block on the file system for a moment."""

    def __init__(self, directory: Path, *, max_active_keys: int = 3) -> None:
        if max_active_keys < 2:
            raise Invalid("At least 2 token keys must be kept, else rotation voids all tokens")
        self._directory = directory
        self._max_active_keys = max_active_keys

    def prepare(self) -> None:
        """Make the directory and the first keys where they are missing; safe if several processes do so at once.

        Raises Invalid if others than the owner may enter the directory.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._directory.stat().st_mode & 0o077:
            raise Invalid("The directory of the token keys is open to others than its owner; expected mode 0700")
        for number in (STAGED, 1):
            if not (number == 1 and self._numbers() and self._numbers()[-1] > 0):
                self._create(number)

    def rotate(self) -> None:
        """The staged key becomes the primary one, a new one is staged, and surplus secondary keys go."""
        self._create(STAGED)  # an interrupted rotation may have left none
        primary = self._numbers()[-1] + 1
        os.rename(self._path(STAGED), self._path(primary))
        self._create(STAGED)
        for number in self._numbers()[1 : -(self._max_active_keys - 1)]:
            self._path(number).unlink(missing_ok=True)
        self._sync()

    def load(self) -> tuple[bytes, ...]:
        """The keys, the primary one first. Raises Bug if there is none, Invalid if one is malformed."""
        numbers = self._numbers()
        if not numbers:
            raise Bug("There is no token key")
        keys = []
        for number in reversed(numbers):
            try:
                keys.append(self._path(number).read_bytes().strip())
            except FileNotFoundError:  # rotated away meanwhile
                continue
        return tuple(keys)

    def _numbers(self) -> list[int]:
        return sorted(int(path.name) for path in self._directory.iterdir() if path.name.isdigit())

    def _path(self, number: int) -> Path:
        return self._directory / str(number)

    def _create(self, number: int) -> None:
        # Written aside and linked into place: another process sees the whole key or none, and the first one wins.
        aside = self._directory / f".{number}.{new_hex()}"
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(Fernet.generate_key())
                file.flush()
                os.fsync(file.fileno())
            os.link(aside, self._path(number))
        except FileExistsError:
            pass
        finally:
            aside.unlink(missing_ok=True)
        self._sync()

    def _sync(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def fernet(keys: tuple[bytes, ...]) -> MultiFernet:
    """What seals with the first key and opens with each. Raises Invalid for a malformed key."""
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError as error:
        raise Invalid("A token key is malformed") from error

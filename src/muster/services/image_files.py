"""The image folder: a file per image, named by the image's id and nothing else.

Invariants: a file with an image's name is whole and durable, for it was renamed there after it was synced; whoever
receives or removes a file holds the file's lock (`flock`), so a sweep tells a living upload from what a crash left,
also between processes. The folder may be shared by all API workers if its filesystem has locks (NFS 4, CephFS), or be
a machine's own (`image_holders`).
"""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from muster.base.errors import NotFound, Transient
from muster.base.file_lock import take_lock
from muster.base.ids import is_uuid
from muster.base.units import MIB
from muster.services.image_incoming import Incoming, in_thread

CHUNK_BYTES = MIB
_PARTIAL = ".part"
# What a machine fetches has one name, so that of its workers one fetches.
_FETCHED = ".fetch.part"
_COPYING = "copying.lock"


class Reader:
    """An image's file, open for reading; it stays readable when the image is deleted meanwhile."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        self.size = status.st_size
        #: Which file it is, whatever its name is by now: device, number, time of its last change.
        self.identity = (status.st_dev, status.st_ino, status.st_mtime_ns)

    async def parts(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `end` (not included) in chunks; closes the file at its end."""
        end = self.size if end is None else end
        try:
            while start < end:
                n_bytes, offset = min(CHUNK_BYTES, end - start), start
                data = await in_thread(lambda n=n_bytes, at=offset: os.pread(self._descriptor, n, at))  # type: ignore[misc]
                if not data:
                    raise Transient("The image's file is shorter than it should be")
                start += len(data)
                yield data
        finally:
            self.close()

    async def sha512(self) -> str:
        """The digest of the whole file, as hexadecimal text. Reads all of it, in threads; it stays open."""
        digest = hashlib.sha512()
        for start in range(0, self.size, CHUNK_BYTES):
            await in_thread(lambda at=start: digest.update(os.pread(self._descriptor, CHUNK_BYTES, at)))  # type: ignore[misc]
        return digest.hexdigest()

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class ImageFiles:
    """The files in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, image_id: str) -> Path:
        """Where an image's file is, or would be. Raises NotFound for what is no image's id."""
        if not is_uuid(image_id):
            raise NotFound(f"No image found with ID {image_id}")
        return self._directory / image_id

    async def receive(self, image_id: str) -> Incoming:
        """Begin to receive an image's file. Raises Transient, TooLarge (disk full)."""
        return await in_thread(lambda: self._receive(self.path(image_id)))

    async def receive_copy(self, image_id: str) -> Incoming | None:
        """Begin to receive the file of an image that has one elsewhere. None while another task does, of any process.

        Raises Transient, TooLarge (disk full).
        """
        return await in_thread(lambda: self._receive_copy(self.path(image_id)))

    async def open(self, image_id: str) -> Reader:
        """Open an image's file. Raises NotFound."""
        return await in_thread(lambda: Reader(os.open(self.path(image_id), os.O_RDONLY | os.O_CLOEXEC)))

    async def exists(self, image_id: str) -> bool:
        """Whether an image's file is there."""
        return await asyncio.to_thread(self.path(image_id).exists)

    async def is_still(self, image_id: str, reader: Reader) -> bool:
        """Whether an image's file is the one that is open, and not another of its name."""
        return await asyncio.to_thread(lambda: _is_at(self.path(image_id), reader.identity[:2]))

    async def remove(self, image_id: str, only: Reader | None = None) -> None:
        """Remove an image's file, or `only` the one that is open. Nothing happens if there is none, or another."""
        await in_thread(lambda: self._remove(self.path(image_id), only))

    async def ids(self) -> tuple[set[str], set[str]]:
        """The ids that have a file, and those that have one that is not whole. One reading of the directory."""
        return await in_thread(self._ids)

    @contextmanager
    def copying(self) -> Iterator[bool]:
        """Whether it is this block's turn to look after copies; False while it is another's, of whatever process."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._directory / _COPYING, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield take_lock(descriptor)
        finally:
            os.close(descriptor)

    async def clear(self, image_id: str, *, whole: bool) -> bool:
        """Remove what a crash left of an image: files that are not whole and, if `whole`, the one that is.

        Nothing is removed and the answer is False while some process receives the image.
        """
        return await in_thread(lambda: self._clear(image_id, whole=whole))

    def _receive(self, final: Path) -> Incoming:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            partial = final.with_name(f"{final.name}.{secrets.token_hex(8)}{_PARTIAL}")
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            # A sweep may have seen the file before it was locked, and have removed it: then another is made.
            if take_lock(descriptor) and os.fstat(descriptor).st_nlink:
                return Incoming(partial, final, descriptor)
            os.close(descriptor)
            partial.unlink(missing_ok=True)

    def _receive_copy(self, final: Path) -> Incoming | None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = final.with_name(final.name + _FETCHED)
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Until it was locked, whoever had it may have given it the image's name: then it is nothing to write to.
        if take_lock(descriptor) and _is_at(partial, _identity(descriptor)):
            os.ftruncate(descriptor, 0)
            return Incoming(partial, final, descriptor)
        os.close(descriptor)
        return None

    def _remove(self, path: Path, only: Reader | None) -> None:
        if only is None or _is_at(path, only.identity[:2]):
            path.unlink(missing_ok=True)

    def _ids(self) -> tuple[set[str], set[str]]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = [path.name for path in self._directory.iterdir()]
        whole = {name for name in names if is_uuid(name)}
        partial = {name.partition(".")[0] for name in names if name.endswith(_PARTIAL)}
        return whole, {name for name in partial if is_uuid(name)}

    def _clear(self, image_id: str, *, whole: bool) -> bool:
        final = self.path(image_id)
        # Files that are not whole first: a living upload moves its lock from there to the whole file, never back.
        paths = [*self._directory.glob(f"{image_id}.*{_PARTIAL}"), final]
        with _all_locked(paths) as free:
            if free:
                for path in paths if whole else paths[:-1]:
                    path.unlink(missing_ok=True)
            return free


async def parts_of(path: Path) -> AsyncIterator[bytes]:
    """Any file, in chunks. Raises OSError."""
    with path.open("rb") as file:
        while part := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield part


@contextmanager
def _all_locked(paths: list[Path]) -> Iterator[bool]:
    """Whether nobody holds the lock of any of the files; they are held meanwhile. One that is missing is free.

    One that has lost its name to another file since it was opened is not: somebody is at work.
    """
    descriptors = []
    try:
        free = True
        for path in paths:
            try:
                descriptors.append(_open_for_lock(path))
            except FileNotFoundError:
                continue
            free = free and take_lock(descriptors[-1]) and _is_at(path, _identity(descriptors[-1]))
        yield free
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _is_at(path: Path, identity: tuple[int, int]) -> bool:
    """Whether the file of this device and number has this name."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == identity


def _open_for_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)  # NFS locks only what is open for writing
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

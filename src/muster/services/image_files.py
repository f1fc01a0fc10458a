"""The image folder: a file per image, named by the image's id and nothing else.

Invariants: a file with an image's name is whole and durable, for it was renamed there after it was synced; whoever
receives or removes a file holds the file's lock (`flock`), so a sweep tells a living upload from what a crash left,
also between processes. The folder may be shared by all API workers if its filesystem has locks (NFS 4, CephFS).
"""

import asyncio
import errno
import hashlib
import os
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from muster.base.errors import Bug, MusterError, NotFound, TooLarge, Transient
from muster.base.file_lock import take_lock
from muster.base.ids import is_uuid
from muster.base.units import MIB
from muster.domain.image_formats import HEAD_BYTES

CHUNK_BYTES = MIB
_PARTIAL = ".part"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Result = TypeVar("Result")


class Received(Struct, frozen=True):
    """What has arrived: bytes, digests as hexadecimal text, and the first HEAD_BYTES."""

    size: int
    md5: str
    sha512: str
    head: bytes


class Incoming:
    """A file that is being received. Its lock is held from its making until `close` or `discard`."""

    def __init__(self, partial: Path, final: Path, descriptor: int) -> None:
        self._partial = partial
        self._final = final
        self._descriptor: int | None = descriptor
        # A caller that is cancelled leaves its thread at work; what comes next must wait for it.
        self._turn = threading.Lock()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha512 = hashlib.sha512()
        self._head = b""
        self.size = 0

    @property
    def head(self) -> bytes:
        """The first bytes, at most HEAD_BYTES."""
        return self._head

    async def write(self, data: bytes) -> None:
        """Append. Raises TooLarge when the disk is full, Transient. Hashing and writing run in a thread."""
        await _in_thread(lambda: self._write(data))

    async def publish(self) -> Received:
        """Sync the file and give it its image's name. Two fsyncs."""
        return await _in_thread(self._publish)

    async def discard(self) -> None:
        """Remove the file, under its temporary name only, and let go of the lock. May be called twice."""
        await _in_thread(self._discard)

    async def close(self) -> None:
        """Let go of the lock; the file stays."""
        await _in_thread(self._close)

    def _write(self, data: bytes) -> None:
        with self._turn:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._open_descriptor(), rest) :]
            self._md5.update(data)
            self._sha512.update(data)
            self._head += data[: HEAD_BYTES - len(self._head)]
            self.size += len(data)

    def _publish(self) -> Received:
        with self._turn:
            os.fsync(self._open_descriptor())
            self._partial.rename(self._final)
            _sync_directory(self._final.parent)
            return Received(self.size, self._md5.hexdigest(), self._sha512.hexdigest(), self._head)

    def _discard(self) -> None:
        with self._turn:
            if self._descriptor is not None:
                self._partial.unlink(missing_ok=True)
                os.close(self._descriptor)
                self._descriptor = None

    def _close(self) -> None:
        with self._turn:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            raise Bug("a file that is closed was written to")
        return self._descriptor


class Reader:
    """An image's file, open for reading; it stays readable when the image is deleted meanwhile."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    async def parts(self, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `end` (not included) in chunks; closes the file at its end."""
        end = self.size if end is None else end
        try:
            while start < end:
                n_bytes, offset = min(CHUNK_BYTES, end - start), start
                data = await _in_thread(lambda n=n_bytes, at=offset: os.pread(self._descriptor, n, at))  # type: ignore[misc]
                if not data:
                    raise Transient("The image's file is shorter than it should be")
                start += len(data)
                yield data
        finally:
            self.close()

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
        return await _in_thread(lambda: self._receive(self.path(image_id)))

    async def open(self, image_id: str) -> Reader:
        """Open an image's file. Raises NotFound."""
        return await _in_thread(lambda: Reader(os.open(self.path(image_id), os.O_RDONLY | os.O_CLOEXEC)))

    async def exists(self, image_id: str) -> bool:
        """Whether an image's file is there."""
        return await asyncio.to_thread(self.path(image_id).exists)

    async def remove(self, image_id: str) -> None:
        """Remove an image's file. Nothing happens if there is none."""
        await _in_thread(lambda: self.path(image_id).unlink(missing_ok=True))

    async def ids(self) -> tuple[set[str], set[str]]:
        """The ids that have a file, and those that have one that is not whole. One reading of the directory."""
        return await _in_thread(self._ids)

    async def clear(self, image_id: str, *, whole: bool) -> bool:
        """Remove what a crash left of an image: files that are not whole and, if `whole`, the one that is.

        Nothing is removed and the answer is False while some process receives the image.
        """
        return await _in_thread(lambda: self._clear(image_id, whole=whole))

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
        with _alltake_lock(paths) as free:
            if free:
                for path in paths if whole else paths[:-1]:
                    path.unlink(missing_ok=True)
            return free


@contextmanager
def _alltake_lock(paths: list[Path]) -> Iterator[bool]:
    """Whether nobody holds the lock of any of the files; they are held meanwhile. One that is missing is free."""
    descriptors = []
    try:
        free = True
        for path in paths:
            try:
                descriptors.append(_open_for_lock(path))
            except FileNotFoundError:
                continue
            free = free and take_lock(descriptors[-1])
        yield free
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _open_for_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)  # NFS locks only what is open for writing
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _in_thread(work: Callable[[], Result]) -> Result:
    try:
        return await asyncio.to_thread(work)
    except MusterError:
        raise
    except FileNotFoundError as error:
        raise NotFound("No image data could be found") from error
    except OSError as error:
        if error.errno in _FULL:
            raise TooLarge("There is not enough disk space on the image storage media.") from error
        raise Transient("The image storage does not answer", retry_after_s=5.0) from error

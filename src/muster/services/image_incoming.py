"""An image's file while it comes to be: received under a temporary name, synced, given its own name, all under a lock.

Invariant: a file gets its image's name only after it was synced, and by whoever holds its lock (`flock`), which the
kernel takes back from a process that dies.
"""

import asyncio
import errno
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from muster.base.durable import sync_directory
from muster.base.errors import Bug, MusterError, NotFound, TooLarge, Transient
from muster.domain.image_formats import HEAD_BYTES

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Result = TypeVar("Result")


class Received(Struct, frozen=True):
    """What has arrived: bytes, digests as hexadecimal text, and the first HEAD_BYTES."""

    size: int
    md5: str
    sha512: str
    head: bytes


class Incoming:
    """A file that is being received. Its lock is held from its making until `close` or `discard`.

    Written by `write` in an event loop, or by `put` and `restart` in a thread (as a `base.image_download.Sink`).
    """

    def __init__(self, partial: Path, final: Path, descriptor: int) -> None:
        self._partial = partial
        self._final = final
        self._descriptor: int | None = descriptor
        self._is_published = False
        # A caller that is cancelled leaves its thread at work; what comes next must wait for it.
        self._turn = threading.Lock()
        self._begin()

    @property
    def head(self) -> bytes:
        """The first bytes, at most HEAD_BYTES."""
        return self._head

    @property
    def sha512(self) -> str:
        """The digest of what has arrived, as hexadecimal text."""
        return self._sha512.hexdigest()

    async def write(self, data: bytes) -> None:
        """Append. Raises TooLarge when the disk is full, Transient. Hashing and writing run in a thread."""
        await in_thread(lambda: self._write(data))

    async def seal(self) -> Received:
        """Sync what has arrived. One fsync."""
        return await in_thread(self._seal)

    async def publish(self) -> None:
        """Give the file, which is sealed, its image's name. One fsync, of the directory."""
        await in_thread(self._publish)

    async def discard(self) -> None:
        """Remove the file, under its temporary name only, and let go of the lock. May be called twice."""
        await in_thread(self._discard)

    async def close(self) -> None:
        """Let go of the lock; the file stays."""
        await in_thread(self._close)

    def tell(self) -> int:
        """How many bytes have arrived."""
        return self.size

    def put(self, data: bytes) -> None:
        """As `write`, in the caller's thread."""
        with translated():
            self._write(data)

    def restart(self) -> None:
        """Forget all that has arrived, in the caller's thread. Raises Transient."""
        with translated(), self._turn:
            os.ftruncate(self._open_descriptor(), 0)
            os.lseek(self._open_descriptor(), 0, os.SEEK_SET)
            self._begin()

    def _begin(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha512 = hashlib.sha512()
        self._head = b""
        self.size = 0

    def _write(self, data: bytes) -> None:
        with self._turn:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._open_descriptor(), rest) :]
            self._md5.update(data)
            self._sha512.update(data)
            self._head += data[: HEAD_BYTES - len(self._head)]
            self.size += len(data)

    def _seal(self) -> Received:
        with self._turn:
            os.fsync(self._open_descriptor())
            return Received(self.size, self._md5.hexdigest(), self._sha512.hexdigest(), self._head)

    def _publish(self) -> None:
        with self._turn:
            self._open_descriptor()
            self._partial.rename(self._final)
            self._is_published = True
            sync_directory(self._final.parent)

    def _discard(self) -> None:
        with self._turn:
            # Once it is published, a file of its temporary name would be another's.
            if self._descriptor is not None and not self._is_published:
                self._partial.unlink(missing_ok=True)
        self._close()

    def _close(self) -> None:
        with self._turn:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            raise Bug("a file that is closed was written to")
        return self._descriptor


async def in_thread(work: Callable[[], Result]) -> Result:
    """Do work on image files in a thread. Raises NotFound, TooLarge (disk full), Transient."""
    with translated():
        return await asyncio.to_thread(work)


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the file system as errors of ours."""
    try:
        yield
    except MusterError:
        raise
    except FileNotFoundError as error:
        raise NotFound("No image data could be found") from error
    except OSError as error:
        if error.errno in _FULL:
            raise TooLarge("There is not enough disk space on the image storage media.") from error
        raise Transient("The image storage does not answer", retry_after_s=5.0) from error

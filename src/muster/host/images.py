"""A host's images: each fetched once, verified, kept until nobody needs it.

Invariants: a file with an image's name is whole, verified and never changes; it is named by its content (sha512), so
what a name stands for cannot be replaced; what was unpacked has `unpacked` in its name. A fetch that fails or dies
leaves only temporary files, which the next process removes. One process per directory.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from muster.base.durable import sync_directory
from muster.base.errors import Invalid, MusterError, Transient
from muster.base.log import get_logger
from muster.domain.specs import ImageSpec
from muster.host.ports import ImageSource
from muster.host.qcow2 import read_header, require_self_contained

FORMATS = ("qcow2", "raw")
_SHA512 = re.compile(r"[0-9a-f]{128}")
_PARTIAL = ".fetch-"

log = get_logger(__name__)


#: Who was told to come again does so by then, to hear that a fetch has failed meanwhile.
_TOLD_FOR_S = 60.0


class CachedImage(Struct, frozen=True):
    """An image that is here. `virtual_size` in bytes."""

    path: Path
    disk_format: str
    virtual_size: int


class OnItsWay(Transient):
    """An image is still being fetched; `fetch` ends once it is here, or cannot be had."""

    code = "muster.host.image_on_its_way"

    def __init__(self, image: ImageSpec, fetch: asyncio.Task[CachedImage]) -> None:
        super().__init__(f"image {image.id} is still being fetched")
        self.fetch = fetch


#: Writes a verified qcow2 image in a form that is cheaper to read to a path, or says that it stays as it is.
Unpack = Callable[[Path, Path], Awaitable[bool]]


class ImageCache:
    """Images on this host's disk. Methods are for one event loop; files are worked on in threads.

    `unpack` (`unpacking.unpack`) is tried on each qcow2 image that is fetched; without it they are kept as they came.
    """

    def __init__(
        self,
        source: ImageSource,
        directory: Path,
        unpack: Unpack | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._directory = directory
        self._unpack = unpack
        self._now = now
        self._known: dict[str, CachedImage] = {}
        self._idle_since_s: dict[str, float] = {}
        self._fetching: dict[str, asyncio.Task[CachedImage]] = {}
        self._owed: set[str] = set()  # of these somebody was told to come again
        self._failed: dict[str, tuple[float, BaseException]] = {}  # when, and why: for who comes again
        self._cleaned: asyncio.Task[None] | None = None

    async def ensure(
        self, images: Sequence[ImageSpec], patience_s: float | None = None
    ) -> Mapping[str, CachedImage | MusterError]:
        """Each image's file or why there is none, by image id. Never raises for a single image.

        All callers that want one image at the same time share one fetch; a caller that is cancelled leaves it to the
        others. Errors are Invalid (digest, size or format are not as they should be), NotFound, Transient; OnItsWay
        for one that takes longer than `patience_s`: it goes on being fetched, is to be asked for again once it is here,
        and is not waited for until then.
        Cost: a look whether it is still there for an image that is known; a read of the whole file for one that is
        fetched.
        """
        distinct = {image.id: image for image in images}
        results = await asyncio.gather(*(self._one(image, patience_s) for image in distinct.values()))
        return dict(zip(distinct, results, strict=True))

    async def evict(self, in_use: Callable[[], Collection[str]], idle_s: float = 0.0) -> int:
        """Remove images that have been idle for so long; the bytes that this frees. Raises Transient.

        Idle is what is neither being fetched, nor among the sha512 that `in_use` tells when it is asked, nor was asked
        for since it was first found so.
        """
        try:
            files = await asyncio.to_thread(self._files)
            # Nothing is waited for until they have lost their names: who wants one after that fetches it anew.
            aside = [self._put_aside(path) for path in self._idle(files, in_use(), idle_s)]
            return await asyncio.to_thread(_unlink, aside)
        except OSError as error:
            raise Transient(f"images cannot be removed: {error}") from error

    async def close(self) -> None:
        """Give up fetches that are under way."""
        tasks = [*self._fetching.values(), *([self._cleaned] if self._cleaned else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _idle(self, files: Sequence[Path], in_use: Collection[str], idle_s: float) -> list[Path]:
        """Those of these files that have been idle for so long."""
        busy, now_s = {digest.lower() for digest in in_use} | self._fetching.keys(), self._now()
        idle = {digest: path for path in files if (digest := _digest_of(path)) not in busy}
        self._idle_since_s = {digest: self._idle_since_s.get(digest, now_s) for digest in idle}
        return [path for digest, path in idle.items() if now_s - self._idle_since_s[digest] >= idle_s]

    def _put_aside(self, path: Path) -> Path:
        """Its image is not here any more; as a temporary file it goes at the latest with the next start."""
        self._known.pop(_digest_of(path), None)
        return path.rename(self._directory / f"{_PARTIAL}{secrets.token_hex(8)}")

    async def _one(self, image: ImageSpec, patience_s: float | None) -> CachedImage | MusterError:
        digest = image.sha512.lower()
        self._idle_since_s.pop(digest, None)
        try:
            known = self._known.get(digest)
            if known is not None and known.disk_format == image.disk_format:
                if await asyncio.to_thread(known.path.exists):
                    return known
                self._known.pop(digest, None)  # somebody has removed it
            _check(image)
            return await self._awaiting(image, digest, patience_s)
        except MusterError as error:
            return error
        except OSError as error:
            return Transient(f"image {image.id} cannot be stored: {error}", retry_after_s=5.0)

    async def _awaiting(self, image: ImageSpec, digest: str, patience_s: float | None) -> CachedImage:
        """The image from a fetch that is under way, or a new one. Raises what becomes of it, OnItsWay."""
        task = self._fetching.get(digest)
        if task is None:
            failed_at_s, error = self._failed.pop(digest, (0.0, None))
            if error is not None and self._now() < failed_at_s + _TOLD_FOR_S:
                raise error
            task = asyncio.create_task(self._fetch(image, digest), name=f"image {image.id}")
            self._fetching[digest] = task
            task.add_done_callback(lambda done: self._fetched(digest, done))
        if digest not in self._owed or patience_s is None:
            await asyncio.wait([task], timeout=patience_s)
        if not task.done():
            self._owed.add(digest)
            raise OnItsWay(image, task)
        return task.result()

    def _fetched(self, digest: str, done: asyncio.Task[CachedImage]) -> None:
        del self._fetching[digest]
        # An error is each waiter's; looked at here, so that one without waiters left is not reported as lost.
        error = None if done.cancelled() else done.exception()
        if error is not None and digest in self._owed:
            self._failed[digest] = (self._now(), error)
        elif error is None and not done.cancelled():
            self._known[digest] = done.result()
        self._owed.discard(digest)

    async def _fetch(self, image: ImageSpec, digest: str) -> CachedImage:
        if self._cleaned is None or _has_failed(self._cleaned):
            self._cleaned = asyncio.create_task(asyncio.to_thread(self._clean))
        await asyncio.shield(self._cleaned)
        target = self._directory / f"{digest}.{image.disk_format}"
        unpacked = self._directory / f"{digest}.unpacked.{image.disk_format}"
        for path in (unpacked, target):
            if (found := await asyncio.to_thread(_found, path, image, is_original=path is target)) is not None:
                return found
        partial, other = (self._directory / f"{_PARTIAL}{secrets.token_hex(8)}" for _ in range(2))
        try:
            log.info("fetching an image", action="image_fetch", image=image.id, size_bytes=image.size_bytes)
            await self._source.fetch(image, partial)
            await asyncio.to_thread(_verify, partial, image)
            if self._unpack is not None and image.disk_format == "qcow2" and await self._unpack(partial, other):
                return await asyncio.to_thread(_admit, other, unpacked, image.disk_format)
            return await asyncio.to_thread(_admit, partial, target, image.disk_format)
        finally:
            for path in (partial, other):
                await asyncio.to_thread(path.unlink, missing_ok=True)

    def _files(self) -> list[Path]:
        return [path for path in self._directory.glob("*") if _SHA512.fullmatch(_digest_of(path))]

    def _clean(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        _unlink(self._directory.glob(_PARTIAL + "*"))


def _has_failed(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _digest_of(path: Path) -> str:
    """The sha512 that an image's file is named by."""
    return path.name.split(".")[0]


def _check(image: ImageSpec) -> None:
    if image.disk_format not in FORMATS:
        raise Invalid(f"image {image.id} has format {image.disk_format!r}; supported are {', '.join(FORMATS)}")
    if not _SHA512.fullmatch(image.sha512.lower()):
        raise Invalid(f"image {image.id} has no valid sha512")


def _verify(partial: Path, image: ImageSpec) -> None:
    """Whether a fetched file is what it should be. Raises Invalid, OSError."""
    size = partial.stat().st_size
    if size != image.size_bytes:
        raise Invalid(f"image {image.id} has {size} bytes instead of {image.size_bytes}")
    with partial.open("rb") as file:
        if hashlib.file_digest(file, "sha512").hexdigest() != image.sha512.lower():
            raise Invalid(f"image {image.id} does not have its sha512; it was changed or damaged")
    _described(partial, image.disk_format)


def _admit(partial: Path, target: Path, disk_format: str) -> CachedImage:
    """Make a verified file durable and give it its name. Raises OSError."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.chmod(0o444)
    partial.replace(target)
    sync_directory(target.parent)
    return _described(target, disk_format)


def _found(path: Path, image: ImageSpec, *, is_original: bool) -> CachedImage | None:
    """The image that an earlier process left, if it is whole as far as a look can tell. A damaged one stays until
    one that was fetched anew takes its place. Raises OSError."""
    try:
        size = path.stat().st_size
        if is_original and size != image.size_bytes:
            raise Invalid(f"it has {size} bytes instead of {image.size_bytes}")
        return _described(path, image.disk_format)
    except FileNotFoundError:
        return None
    except Invalid as error:
        log.error("an image on this host's disk is damaged", action="image_damaged", image=image.id, error=str(error))
        return None


def _described(path: Path, disk_format: str) -> CachedImage:
    if disk_format == "raw":
        return CachedImage(path, disk_format, path.stat().st_size)
    header = read_header(path)
    require_self_contained(header)
    return CachedImage(path, disk_format, header.virtual_size)


def _unlink(paths: Iterable[Path]) -> int:
    freed = 0
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # somebody else was quicker
            size = path.stat().st_size
            path.unlink()
            freed += size
    return freed

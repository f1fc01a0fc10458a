import asyncio
import hashlib
from pathlib import Path

import msgspec
import pytest

from muster.base.errors import Invalid, MusterError, NotFound, Transient
from muster.domain.specs import ImageSpec
from muster.host.images import CachedImage, ImageCache, OnItsWay
from muster.host.qcow2 import write_empty, write_overlay

CONTENT = b"disk" * 1_000


def spec(content: bytes = CONTENT, name: str = "image", disk_format: str = "raw") -> ImageSpec:
    digest = hashlib.sha512(content).hexdigest()
    return ImageSpec(id=name, disk_format=disk_format, size_bytes=len(content), sha512=digest)


class Source:
    """Serves contents by image id, or raises what stands there; counts, and can be held up."""

    def __init__(self, **contents: bytes | Exception) -> None:
        self.contents = contents
        self.fetched: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def fetch(self, image: ImageSpec, target: Path) -> None:
        self.fetched.append(image.id)
        target.write_bytes(b"half")
        await self.open.wait()
        content = self.contents[image.id]
        if isinstance(content, Exception):
            raise content
        target.write_bytes(content)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.exists() else set()


async def one(cache: ImageCache, image: ImageSpec) -> CachedImage | MusterError:
    return (await cache.ensure([image]))[image.id]


async def test_a_hundred_callers_share_one_fetch(tmp_path: Path) -> None:
    source = Source(image=CONTENT)
    cache = ImageCache(source, tmp_path / "images")
    results = await asyncio.gather(*(one(cache, spec()) for _ in range(100)))
    path = tmp_path / "images" / f"{spec().sha512}.raw"
    assert results == [CachedImage(path, "raw", len(CONTENT))] * 100
    assert source.fetched == ["image"]
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o222 == 0
    assert names(tmp_path / "images") == {path.name}
    # Another process finds it there.
    other = Source()
    assert await one(ImageCache(other, tmp_path / "images"), spec()) == results[0]
    assert other.fetched == []


@pytest.mark.parametrize("content", [b"short", b"x" * len(CONTENT), b""])
async def test_what_is_not_the_image_is_not_kept(tmp_path: Path, content: bytes) -> None:
    source = Source(image=content)
    cache = ImageCache(source, tmp_path)
    assert isinstance(await one(cache, spec()), Invalid)
    assert names(tmp_path) == set()
    source.contents["image"] = CONTENT
    assert isinstance(await one(cache, spec()), CachedImage)


async def test_one_images_failure_is_its_own(tmp_path: Path) -> None:
    source = Source(good=CONTENT, gone=NotFound("gone"), away=Transient("away"), full=OSError(28, "disk full"))
    cache = ImageCache(source, tmp_path)
    others = [spec(name.encode(), name) for name in ("gone", "away", "full")]
    found = await cache.ensure([spec(name="good"), *others, spec(name="good")])
    kinds = {name: type(result) for name, result in found.items()}
    assert kinds == {"good": CachedImage, "gone": NotFound, "away": Transient, "full": Transient}
    assert len(names(tmp_path)) == 1


async def test_an_image_that_somebody_was_told_to_come_again_for_is_not_waited_for(tmp_path: Path) -> None:
    """Each try, and each new server of the image, once held up all that was built on the host for another 5 s."""
    source = Source(image=CONTENT)
    source.open.clear()
    cache = ImageCache(source, tmp_path)
    for patience_s in (0.01, 10_000.0):
        async with asyncio.timeout(300):
            found = (await cache.ensure([spec()], patience_s))["image"]
        assert isinstance(found, OnItsWay)
    source.open.set()
    await found.fetch
    assert isinstance((await cache.ensure([spec()], 10_000.0))["image"], CachedImage)


async def test_a_caller_that_leaves_does_not_take_the_fetch_along(tmp_path: Path) -> None:
    source = Source(image=CONTENT)
    source.open.clear()
    cache = ImageCache(source, tmp_path)
    first, second = (asyncio.create_task(one(cache, spec())) for _ in range(2))
    while not source.fetched:
        await asyncio.sleep(0.001)
    first.cancel()
    source.open.set()
    assert isinstance(await second, CachedImage)
    assert source.fetched == ["image"]


async def test_an_image_that_somebody_removed_is_fetched_again(tmp_path: Path) -> None:
    """Until the agent was restarted, each server made of it failed."""
    source = Source(image=CONTENT)
    cache = ImageCache(source, tmp_path)
    first = await one(cache, spec())
    assert isinstance(first, CachedImage)
    first.path.unlink()
    assert await asyncio.gather(*(one(cache, spec()) for _ in range(3))) == [first] * 3
    assert first.path.read_bytes() == CONTENT
    assert source.fetched == ["image", "image"]


@pytest.mark.parametrize("damage", [b"", b"\0" * 512, None])
@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
async def test_an_image_that_is_damaged_on_disk_is_fetched_again(
    tmp_path: Path, disk_format: str, damage: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a crash of the file system may leave it. Each server made of it failed, or had half a disk."""
    write_empty(tmp_path / "source", virtual_size=1 << 20)
    content = (tmp_path / "source").read_bytes()
    source, image = Source(image=content), spec(content, disk_format=disk_format)
    found = await one(ImageCache(source, tmp_path / "images"), image)
    assert isinstance(found, CachedImage)
    found.path.chmod(0o644)
    found.path.write_bytes(content[:-1] if damage is None else damage)
    assert await one(ImageCache(source, tmp_path / "images"), image) == found
    assert found.path.read_bytes() == content
    assert source.fetched == ["image", "image"]
    assert "damaged" in capsys.readouterr().out


async def test_leftovers_of_a_dead_process_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".fetch-dead").write_bytes(b"x")
    assert isinstance(await one(ImageCache(Source(image=CONTENT), tmp_path), spec()), CachedImage)
    assert ".fetch-dead" not in names(tmp_path)


async def test_closing_gives_up_and_leaves_nothing(tmp_path: Path) -> None:
    source = Source(image=CONTENT)
    source.open.clear()
    cache = ImageCache(source, tmp_path)
    waiting = asyncio.create_task(one(cache, spec()))
    while not source.fetched:
        await asyncio.sleep(0.001)
    await cache.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    "changes", [{"disk_format": "vmdk"}, {"disk_format": "../x"}, {"sha512": "../../etc/passwd"}, {"sha512": ""}]
)
async def test_bad_descriptions_are_refused_before_anything_is_fetched(tmp_path: Path, changes: dict[str, str]) -> None:
    source = Source(image=CONTENT)
    assert isinstance(await one(ImageCache(source, tmp_path), msgspec.structs.replace(spec(), **changes)), Invalid)
    assert source.fetched == []


async def test_an_image_with_a_backing_file_is_refused(tmp_path: Path) -> None:
    write_overlay(tmp_path / "evil", virtual_size=512, backing=Path("/etc/shadow"), backing_format="raw")
    content = (tmp_path / "evil").read_bytes()
    cache = ImageCache(Source(image=content), tmp_path / "images")
    result = await one(cache, spec(content, disk_format="qcow2"))
    assert isinstance(result, Invalid)
    assert "backing file" in result.message
    assert names(tmp_path / "images") == set()
    # As raw it is a disk like any other: nothing looks into it.
    assert isinstance(await one(cache, spec(content)), CachedImage)


async def test_eviction_spares_what_is_used_and_what_is_fetched(tmp_path: Path) -> None:
    source = Source(a=b"aa", b=b"bbb", c=b"cccc")
    cache = ImageCache(source, tmp_path)
    a, b, c = (spec(content, name) for name, content in (("a", b"aa"), ("b", b"bbb"), ("c", b"cccc")))
    await cache.ensure([a, b])
    source.open.clear()
    fetching = asyncio.create_task(one(cache, c))
    while "c" not in source.fetched:
        await asyncio.sleep(0.001)
    assert await cache.evict(lambda: [a.sha512.upper()]) == 3
    source.open.set()
    assert isinstance(await fetching, CachedImage)
    assert names(tmp_path) == {f"{a.sha512}.raw", f"{c.sha512}.raw"}
    assert isinstance(await one(cache, b), CachedImage)
    assert sorted(source.fetched) == ["a", "b", "b", "c"]


async def test_an_image_goes_when_nobody_has_asked_for_it_for_long(tmp_path: Path) -> None:
    """Images once went only when the agent was started: a farm with a new image each night filled its hosts' disks."""
    now_s = 0.0
    source = Source(image=CONTENT)
    cache = ImageCache(source, tmp_path, now=lambda: now_s)
    await one(cache, spec())
    assert await cache.evict(set, 100.0) == 0
    now_s = 90.0
    assert await cache.evict(set, 100.0) == 0
    await one(cache, spec())  # it is of use, though no guest has it when it is looked
    now_s = 120.0
    assert await cache.evict(set, 100.0) == 0
    now_s = 220.0
    assert await cache.evict(lambda: [spec().sha512], 100.0) == 0
    assert await cache.evict(set, 100.0) == 0
    now_s = 320.0
    assert await cache.evict(set, 100.0) == len(CONTENT)
    assert names(tmp_path) == set()
    assert isinstance(await one(cache, spec()), CachedImage)
    assert source.fetched == ["image", "image"]


async def test_who_begins_to_use_an_image_while_idle_ones_are_looked_for_keeps_it(tmp_path: Path) -> None:
    """What is in use is asked at the moment at which files go, not before the folder is read."""
    cache, in_use = ImageCache(Source(image=CONTENT), tmp_path), set[str]()
    await one(cache, spec())
    eviction = asyncio.create_task(cache.evict(lambda: in_use))
    await asyncio.sleep(0)
    in_use.add(spec().sha512)
    assert await eviction == 0
    assert len(names(tmp_path)) == 1


async def test_a_directory_that_could_not_be_cleaned_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One moment without a free file once kept every image away until the agent was started anew."""
    cache = ImageCache(Source(image=CONTENT), tmp_path)
    clean, failures = cache._clean, [OSError(24, "Too many open files")]

    def fails_once() -> None:
        if failures:
            raise failures.pop()
        clean()

    monkeypatch.setattr(cache, "_clean", fails_once)
    assert isinstance(await one(cache, spec()), Transient)
    assert isinstance(await one(cache, spec()), CachedImage)

"""Compressed images are unpacked once; whatever is wrong, the image is used as it is and nothing else is left."""

import asyncio
import hashlib
import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from muster.base.errors import Invalid
from muster.base.units import KIB, MIB
from muster.domain.specs import ImageSpec
from muster.host.images import CachedImage, ImageCache
from muster.host.qcow2 import read_header, write_empty
from muster.host.unpacking import contents, unpack

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def qemu_img(*words: object) -> str:
    command = ["qemu-img", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout


def some_disk() -> bytes:
    """Two MiB that can be compressed, in clusters of any size, then a hole."""
    half = random.Random(1).randbytes(KIB)
    return (half + bytes(KIB)) * KIB + bytes(2 * MIB)


def packed(folder: Path, content: bytes, *options: str, name: str = "packed") -> Path:
    raw, path = folder / f"{name}.raw", folder / f"{name}.qcow2"
    raw.write_bytes(content)
    qemu_img("convert", "-f", "raw", "-O", "qcow2", *options, raw, path)
    return path


@pytest.mark.parametrize("options", [("-c",), ("-c", "-o", "cluster_size=4096"), ("-c", "-o", "extended_l2=on")])
async def test_an_unpacked_image_has_the_same_content_and_nothing_compressed(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    image, target = packed(tmp_path, some_disk(), *options), tmp_path / "target"
    told = json.loads(qemu_img("check", "--output=json", image))
    found = contents(image)
    assert found.n_compressed == told["compressed-clusters"] > 0
    assert await unpack(image, target)
    assert qemu_img("compare", "-f", "qcow2", "-F", "qcow2", image, target).startswith("Images are identical")
    assert contents(target).n_compressed == 0
    assert "compressed-clusters" not in json.loads(qemu_img("check", "--output=json", target))
    assert 2 * MIB <= contents(target).unpacked_bytes <= found.unpacked_bytes


async def test_an_image_without_compressed_clusters_stays_as_it_is(tmp_path: Path) -> None:
    image, target = packed(tmp_path, some_disk()), tmp_path / "target"
    assert contents(image).n_compressed == 0
    assert not await unpack(image, target)
    assert not target.exists()


async def test_an_image_that_would_fill_the_disk_stays_as_it_is(tmp_path: Path) -> None:
    image, target = packed(tmp_path, b"a" * 16 * MIB, "-c"), tmp_path / "target"
    assert contents(image).unpacked_bytes == 16 * MIB > 10 * image.stat().st_size
    assert not await unpack(image, target)
    assert not target.exists()


async def test_an_image_whose_tables_are_used_again_and_again_counts_as_what_it_unpacks_to(tmp_path: Path) -> None:
    """Some hundred KiB that said to hold a few clusters once filled the disk of each host that unpacked them."""
    image, target = packed(tmp_path, some_disk(), "-c", "-o", "cluster_size=4096"), tmp_path / "target"
    once = contents(image).unpacked_bytes
    qemu_img("resize", "-f", "qcow2", image, "2G")
    header = read_header(image)
    with image.open("r+b") as file:
        file.seek(header.l1_offset)
        first = file.read(8)
        file.seek(header.l1_offset)
        file.write(first * header.l1_entries)  # 2 MiB each: the disk holds the same some hundred times
    assert contents(image).unpacked_bytes == header.l1_entries * once > 100 * once
    assert not await unpack(image, target)
    assert not target.exists()


async def test_a_damaged_image_stays_as_it_is(tmp_path: Path) -> None:
    image, target = packed(tmp_path, some_disk(), "-c"), tmp_path / "target"
    content = bytearray(image.read_bytes())
    content[-40 * KIB :] = b"\xff" * (40 * KIB)
    image.write_bytes(content)
    assert not await unpack(image, target)
    assert not target.exists()


async def test_without_qemu_img_an_image_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, target = packed(tmp_path, some_disk(), "-c"), tmp_path / "target"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not await unpack(image, target)
    assert not target.exists()


def test_what_is_no_qcow2_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(bytes(4_096))
    with pytest.raises(Invalid):
        contents(tmp_path / "raw")
    image = packed(tmp_path, some_disk(), "-c")
    content = bytearray(image.read_bytes())
    content[36:40] = b"\xff" * 4  # the number of entries in the first table
    image.write_bytes(content)
    with pytest.raises(Invalid, match="first table"):
        contents(image)


class Source:
    """Serves one file, and counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fetched = 0

    async def fetch(self, _image: ImageSpec, target: Path) -> None:
        self.fetched += 1
        target.write_bytes(self.path.read_bytes())


async def one(cache: ImageCache, image: ImageSpec) -> CachedImage:
    found = (await cache.ensure([image]))[image.id]
    assert isinstance(found, CachedImage), found
    return found


async def test_the_cache_keeps_an_image_unpacked_and_finds_it_again(tmp_path: Path) -> None:
    source = Source(packed(tmp_path, some_disk(), "-c"))
    content = source.path.read_bytes()
    digest = hashlib.sha512(content).hexdigest()
    image = ImageSpec(id="image", disk_format="qcow2", size_bytes=len(content), sha512=digest)
    cache = ImageCache(source, tmp_path / "images", unpack)
    found = await one(cache, image)
    assert [path.name for path in (tmp_path / "images").iterdir()] == [f"{digest}.unpacked.qcow2"] == [found.path.name]
    assert found.path.stat().st_mode & 0o777 == 0o444
    assert (found.disk_format, found.virtual_size) == ("qcow2", 4 * MIB)
    again = ImageCache(source, tmp_path / "images", unpack)
    assert await one(again, image) == found
    assert source.fetched == 1
    assert await again.evict(lambda: {digest}) == 0
    assert await again.evict(set) > 0
    assert not found.path.exists()


async def test_an_image_that_is_here_as_it_came_goes_on_being_used(tmp_path: Path) -> None:
    """Disks of guests name it."""
    source = Source(packed(tmp_path, some_disk(), "-c"))
    content = source.path.read_bytes()
    digest = hashlib.sha512(content).hexdigest()
    image = ImageSpec(id="image", disk_format="qcow2", size_bytes=len(content), sha512=digest)
    found = await one(ImageCache(source, tmp_path / "images"), image)
    assert found.path.name == f"{digest}.qcow2"
    assert await one(ImageCache(source, tmp_path / "images", unpack), image) == found


async def test_closing_gives_up_unpacking_and_leaves_nothing(tmp_path: Path) -> None:
    source = Source(packed(tmp_path, some_disk(), "-c"))
    content = source.path.read_bytes()
    begun = asyncio.Event()

    async def forever(_packed: Path, target: Path) -> bool:
        target.write_bytes(b"half")
        begun.set()
        await asyncio.Event().wait()
        return True

    cache = ImageCache(source, tmp_path / "images", forever)
    digest = hashlib.sha512(content).hexdigest()
    image = ImageSpec(id="image", disk_format="qcow2", size_bytes=len(content), sha512=digest)
    waiting = asyncio.create_task(cache.ensure([image]))
    await begun.wait()
    await cache.close()
    await asyncio.gather(waiting, return_exceptions=True)
    assert list((tmp_path / "images").iterdir()) == []


def test_an_image_whose_tables_overlap_is_not_read_for_days(tmp_path: Path) -> None:
    path = tmp_path / "image"
    write_empty(path, virtual_size=1 << 39)
    header = read_header(path)
    with path.open("r+b") as image:
        image.seek(header.l1_offset)
        image.write(b"".join((512 * (number + 1)).to_bytes(8, "big") for number in range(header.l1_entries)))
    with pytest.raises(Invalid, match="overlap"):
        contents(path)

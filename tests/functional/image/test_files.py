"""Content: uploads, downloads, and what must not get in."""

import asyncio
import fcntl
import hashlib
import os
import struct

import pytest
from msgspec.structs import replace

from muster.base.errors import Conflict, NotFound, Transient
from muster.domain.context import Context
from muster.domain.images import Status
from muster.domain.specs import ImageSpec
from muster.services import image_files
from muster.services.image_files import ImageFiles
from muster.services.image_source import LocalImageSource
from muster.store import images as store

from .conftest import OCTETS, SETTINGS, Client, Cloud

MEMBER = Context(user_id="u", project_id="p1", roles=frozenset({"member"}))


def qcow2(virtual_size: int = 1 << 30, *, backing: int = 0, incompatible: int = 0, crypt: int = 0, magic=b"QFI\xfb"):
    """An empty qcow2 image: header, refcount table, refcount block, L1 table, in clusters of 64 KiB."""
    l1 = -(-virtual_size // (1 << 29))
    head = struct.pack(
        ">4sIQIIQIIQQIIQ",
        magic,
        3,
        backing,
        9 if backing else 0,
        16,
        virtual_size,
        crypt,
        l1,
        3 << 16,
        1 << 16,
        1,
        0,
        0,
    )
    head += struct.pack(">QQQII", incompatible, 0, 0, 4, 104)
    body = bytearray(4 << 16)
    body[: len(head)] = head
    body[1 << 16 : (1 << 16) + 8] = struct.pack(">Q", 2 << 16)
    return bytes(body)


async def test_upload_and_download(member, cloud):
    image = await member.image(name="../../etc/passwd", disk_format="qcow2")
    content = qcow2()
    await member.upload(image, content)
    shown = await member.get(f"/v2/images/{image['id']}")
    assert (shown["status"], shown["size"], shown["virtual_size"]) == ("active", len(content), 1 << 30)
    assert shown["checksum"] == hashlib.md5(content).hexdigest()
    assert (shown["os_hash_algo"], shown["os_hash_value"]) == ("sha512", hashlib.sha512(content).hexdigest())
    response = await member.call("GET", f"{shown['file']}")
    assert response.content == content
    assert response.headers["content-md5"] == shown["checksum"]
    assert response.headers["content-type"] == OCTETS
    assert response.headers["x-openstack-image-hash-value"] == shown["os_hash_value"]
    assert cloud.kept() == [image["id"]]
    assert cloud.folder.stat().st_mode & 0o777 == 0o700
    assert (cloud.folder / image["id"]).stat().st_mode & 0o077 == 0
    body = await member.upload(image, content, 409)
    assert body["message"] == "Image status transition from active to saving is not allowed"
    await member.delete(f"/v2/images/{image['id']}")
    assert cloud.kept() == []


async def test_large_content_comes_in_many_chunks(member, cloud):
    image = await member.image()
    content = os.urandom(2_900_001)

    async def parts():
        for start in range(0, len(content), 65_521):
            yield content[start : start + 65_521]

    await member.upload(image, parts())
    assert (await member.call("GET", image["file"])).content == content
    assert (await member.get(image["self"]))["os_hash_value"] == hashlib.sha512(content).hexdigest()


@pytest.mark.parametrize(
    ("header", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=990-", 206, slice(990, 1000)),
        ("bytes=-10", 206, slice(990, 1000)),
        ("bytes=-5000", 206, slice(0, 1000)),
        ("bytes=500-5000", 206, slice(500, 1000)),
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=1000-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=9-3", 200, slice(0, 1000)),
        ("bytes=0-1,5-6", 200, slice(0, 1000)),
        ("bytes=-", 200, slice(0, 1000)),
        ("lines=1-2", 200, slice(0, 1000)),
    ],
)
async def test_ranges(member, header, status, part):
    image, content = await member.image(), os.urandom(1000)
    await member.upload(image, content)
    response = await member.call("GET", image["file"], headers={"Range": header})
    assert response.status_code == status
    if part is None:
        assert response.headers["content-range"] == "bytes */1000"
        return
    assert response.content == content[part]
    assert int(response.headers["content-length"]) == len(response.content)
    if status == 206:
        assert response.headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/1000"


async def test_no_content_yet(member):
    image = await member.image()
    response = await member.call("GET", image["file"])
    assert (response.status_code, response.content) == (204, b"")


BAD = {
    "backing file": (qcow2(backing=200), 400),
    "external data file": (qcow2(incompatible=1 << 2), 400),
    "unknown feature": (qcow2(incompatible=1 << 40), 400),
    "corrupt": (qcow2(incompatible=1 << 1), 400),
    "encrypted": (qcow2(crypt=2), 400),
    "cut short": (qcow2()[:5000], 400),
    "huge": (qcow2((1 << 40) + 512), 413),
    "text": (b"/etc/passwd" * 100, 415),
    "vmdk": (b"KDMV" + bytes(5000), 415),
    "empty": (b"", 415),
}
DISGUISED = {
    "qcow2": qcow2(backing=200),
    "harmless qcow2": qcow2(),
    "qcow2 of another version": b"QFI\xfb\0\0\0\1" + bytes(500),
    "vmdk": b"KDMV" + bytes(5000),
    "vmdk descriptor": b'# Disk DescriptorFile\nversion=1\ncreateType="monolithicFlat"\nRW 1 FLAT "/etc/passwd" 0\n',
    "bare descriptor": b'# x\n\nversion=1\nRW 1 FLAT "/etc/passwd" 0\n',
    "vhd": b"conectix" + bytes(504),
    "vhdx": b"vhdxfile" + bytes(504),
    "vdi": bytes(0x40) + b"\x7f\x10\xda\xbe" + bytes(500),
    "qed": b"QED\0" + bytes(500),
    "luks": b"LUKS\xba\xbe\0\1" + bytes(500),
}


@pytest.mark.parametrize("kind", BAD)
async def test_what_is_no_safe_qcow2(member, cloud, kind):
    content, status = BAD[kind]
    await _refused(member, cloud, "qcow2", content, status)


@pytest.mark.parametrize("kind", DISGUISED)
async def test_what_hides_behind_raw(member, cloud, kind):
    await _refused(member, cloud, "raw", DISGUISED[kind], 415)


async def _refused(member: Client, cloud: Cloud, disk_format: str, content: bytes, status: int) -> None:
    image = await member.image(disk_format=disk_format)
    await member.upload(image, content, status)
    assert (await member.get(image["self"])) == image | {"updated_at": "2027-01-15T08:00:00Z"}
    assert cloud.kept() == []
    await member.upload(image, b"x" * 512 if disk_format == "raw" else qcow2())
    assert await member.status(image) == "active"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(510) + b"\x55\xaa" + bytes(512),  # a partition table
        bytes(510) + b"\x55\xaaEFI PART" + bytes(512),
        bytes(32_768) + b"\x01CD001\x01" + bytes(2048),  # ISO 9660
    ],
)
async def test_what_raw_may_be(member, content):
    image = await member.image()
    await member.upload(image, content)
    assert (await member.get(image["self"]))["virtual_size"] == len(content)


async def test_a_wrong_format_is_told_before_the_last_byte(member, cloud):
    image = await member.image()
    sent = 0

    async def parts():
        nonlocal sent
        yield b"KDMV" + bytes(1 << 20)
        while True:
            sent += 1
            yield bytes(1000)
            await asyncio.sleep(0.001)

    await member.upload(image, parts(), 415)
    assert sent < 1_900, "before what is too much"


async def test_sizes(member, cloud):
    image = await member.image()
    await member.upload(image, b"x" * 3_000_001, 413)
    await member.upload(image, b"x" * 100, 400, x_openstack_image_size="99")
    await member.upload(image, b"x" * 100, 400, x_image_meta_size="-1")

    async def too_many():
        for _ in range(40):
            yield bytes(100_000)

    async def too_few():
        yield bytes(10)

    await member.upload(image, too_many(), 413)
    body = await member.upload(image, too_few(), 400, x_image_meta_size="11")
    assert body["message"] == "The size declared is 11 bytes, but 10 bytes were received"
    assert await member.status(image) == "queued"
    await member.upload(image, bytes(2_900_000), 204, x_image_meta_size="2900000")
    second = await member.image()
    body = await member.upload(second, bytes(2_900_000), 413)
    assert "quota" in body["message"]
    third = await member.image()

    async def undeclared():
        yield bytes(2_900_000)

    await member.upload(third, undeclared(), 413)
    assert cloud.kept() == [image["id"]]
    await cloud.client("member@p2").image()


async def test_uploads_that_are_refused_at_once(member, other, cloud):
    image = await member.image()
    for kind in ("application/json", ""):
        response = await member.call("PUT", image["file"], content=b"x", headers={"Content-Type": kind})
        assert response.status_code == 415
    await other.upload(image, b"x", 404)
    bare = await member.post("/v2/images", {"name": "n"})
    body = await member.upload(bare, b"x", 400)
    assert "disk_format, container_format" in body["message"]
    assert cloud.kept() == []


async def test_a_client_that_goes_away(member, cloud):
    image = await member.image()
    scope = await _scope(cloud, image)
    messages = [
        {"type": "http.request", "body": bytes(1_500_000), "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        assert cloud.kept() != [] or len(messages) == 2
        return messages.pop(0)

    sent = []

    async def send(message):
        sent.append(message)

    await cloud.app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert (await member.status(image), cloud.kept()) == ("queued", [])


async def test_a_client_that_stalls(member, cloud):
    image = await member.image()
    cloud.services.uploads._settings = replace(SETTINGS, idle_timeout_s=0.3)

    async def parts():
        yield bytes(100)
        await asyncio.Event().wait()
        yield b""

    body = await member.upload(image, parts(), 400)
    assert "Nothing arrived" in body["message"]
    assert (await member.status(image), cloud.kept()) == ("queued", [])


async def test_an_upload_that_is_cancelled(member, cloud):
    image = await member.image()
    started = asyncio.Event()

    async def parts():
        yield bytes(1_100_000)
        started.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(cloud.services.uploads.upload(MEMBER, image["id"], parts()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await member.status(image), cloud.kept()) == ("queued", [])


async def test_one_upload_at_a_time(member, cloud):
    image = await member.image()
    going_on = asyncio.Event()

    async def parts():
        yield bytes(1000)
        await going_on.wait()
        yield bytes(24)

    first = asyncio.create_task(cloud.services.uploads.upload(MEMBER, image["id"], parts()))
    while await member.status(image) != "saving":
        await asyncio.sleep(0.01)
    assert await cloud.services.uploads.sweep() == 0
    body = await member.upload(image, b"x", 409)
    assert body["message"] == "Image status transition from saving to saving is not allowed"
    assert (await member.call("GET", image["file"])).status_code == 204
    going_on.set()
    assert (await first).size == 1024
    assert cloud.kept() == [image["id"]]


async def test_deleted_during_its_upload(member, cloud):
    image = await member.image()

    async def parts():
        yield bytes(1000)
        await member.delete(image["self"])

    body = await member.upload(image, parts(), 410)
    assert body["title"] == "Gone"
    assert cloud.kept() == []


async def test_an_upload_whose_image_is_gone_harms_no_other_of_its_id(member, cloud):
    """The other is active, or still receives, when the first comes to its end."""
    for is_done in (True, False):
        image = await member.image()
        slow, fast = asyncio.Event(), asyncio.Event()

        async def parts(go_on: asyncio.Event, byte: bytes):
            yield byte * 1000
            await go_on.wait()
            yield byte * 24

        uploads = cloud.services.uploads
        first = asyncio.create_task(uploads.upload(MEMBER, image["id"], parts(slow, b"1")))
        while await member.status(image) != "saving":
            await asyncio.sleep(0.01)
        await member.delete(image["self"])
        cloud.clock.now_s += 1
        await member.image(id=image["id"])
        second = asyncio.create_task(uploads.upload(MEMBER, image["id"], parts(fast, b"2")))
        while await member.status(image) != "saving":
            await asyncio.sleep(0.01)
        if is_done:
            fast.set()
            await second
        slow.set()
        with pytest.raises(NotFound, match="deleted during its upload"):
            await first
        fast.set()
        assert (await second).size == 1024
        response = await member.call("GET", image["file"])
        assert response.content == b"2" * 1024
        await member.delete(image["self"])
    assert cloud.kept() == []


async def test_a_deletion_that_is_slow_takes_no_other_image_of_its_id_along(member, cloud, monkeypatch):
    image = await member.image()
    await member.upload(image, b"1" * 512)
    remove = ImageFiles.remove

    async def late(files: ImageFiles, image_id: str, *arguments: object, **more: object) -> None:
        monkeypatch.setattr(ImageFiles, "remove", remove)
        await member.image(id=image_id)
        await member.upload(image, b"2" * 512)
        await remove(files, image_id, *arguments, **more)

    monkeypatch.setattr(ImageFiles, "remove", late)
    await member.delete(image["self"])
    assert (await member.call("GET", image["file"])).content == b"2" * 512
    await member.delete(image["self"])
    assert cloud.kept() == []


async def test_a_full_disk(member, cloud, monkeypatch):
    image = await member.image()
    monkeypatch.setattr(image_files.os, "write", _no_space)
    await member.upload(image, b"x" * 512, 413)
    monkeypatch.undo()
    assert (await member.status(image), cloud.kept()) == ("queued", [])
    await member.upload(image, b"x" * 512)


def _no_space(*_args: object) -> int:
    raise OSError(28, "No space left on device")


async def test_deactivated(member, other, admin):
    image = await member.image(visibility="community")
    await member.post(f"{image['self']}/actions/deactivate", None, 403)
    await member.upload(image, b"x" * 512)
    await other.post(f"{image['self']}/actions/deactivate", None, 403)
    for _ in range(2):
        await member.post(f"{image['self']}/actions/deactivate", None, 204)
    assert await member.status(image) == "deactivated"
    await member.get(image["file"], 403)
    assert (await admin.call("GET", image["file"])).content == b"x" * 512
    await member.post(f"{image['self']}/actions/reactivate", None, 204)
    assert (await member.call("GET", image["file"])).status_code == 200


async def test_what_servers_are_made_of(member, cloud):
    image = await member.image(disk_format="qcow2", min_disk=1)
    images = cloud.services.images
    with pytest.raises(Exception, match="is not active"):
        await images.spec(MEMBER, image["id"])
    await member.upload(image, qcow2((5 << 30) + 512))
    spec = await images.spec(MEMBER, image["id"])
    content = qcow2((5 << 30) + 512)
    assert spec == ImageSpec(
        id=image["id"],
        disk_format="qcow2",
        size_bytes=len(content),
        sha512=hashlib.sha512(content).hexdigest(),
        min_disk_gib=6,
    )
    stranger = Context(user_id="u", project_id="p2", roles=frozenset({"member"}))
    with pytest.raises(NotFound):
        await images.spec(stranger, image["id"])
    reader = await images.open_file(image["id"])
    assert b"".join([part async for part in reader.parts()]) == content


async def test_a_local_host_fetches_without_http(member, cloud, tmp_path):
    image = await member.image()
    await member.upload(image, b"x" * 512)
    spec = await cloud.services.images.spec(MEMBER, image["id"])
    source, target = LocalImageSource(cloud.files), tmp_path / "fetched"
    await source.fetch(spec, target)
    assert target.read_bytes() == b"x" * 512
    with pytest.raises(Transient):
        await source.fetch(spec, tmp_path / "missing" / "x")
    await member.delete(image["self"])
    assert target.read_bytes() == b"x" * 512
    with pytest.raises(NotFound):
        await source.fetch(spec, tmp_path / "again")


async def _scope(cloud: Cloud, image: dict) -> dict:
    headers = {"x-auth-token": "member@p1", "content-type": OCTETS, "host": "cloud"}
    return {
        "type": "http",
        "method": "PUT",
        "path": image["file"],
        "query_string": b"",
        "scheme": "http",
        "server": ("cloud", 80),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }


class Crash(BaseException):
    """The process is gone: nothing of its own runs any more."""


async def _crashed_upload(cloud: Cloud, member: Client, monkeypatch, at: str) -> dict:
    """An upload whose process dies at this step; its lock is gone with it."""
    image = await member.image()
    uploads = cloud.services.uploads
    held = []

    async def die(*_args: object, **_more: object):
        raise Crash

    async def rename_and_die(_connection, incoming, *_args: object):
        await incoming.publish()
        raise Crash

    async def remember(incoming, _image_id):
        held.append(incoming)

    with monkeypatch.context() as patch:
        patch.setattr(uploads, "_give_up", remember)
        if at == "receiving":
            patch.setattr(uploads, "_write_all", die)
        else:
            patch.setattr(uploads, "_finish", rename_and_die)
        with pytest.raises(Crash):
            await uploads.upload(MEMBER, image["id"], _few())
    assert await member.status(image) == "saving"
    assert len(cloud.kept()) == 1
    assert await uploads.sweep() == 0  # it lives as long as its lock is held
    assert await member.status(image) == "saving"
    await held[0].close()
    return image


async def _few():
    yield b"y" * 600


@pytest.mark.parametrize("at", ["receiving", "renamed"])
async def test_a_crash_leaves_nothing_after_a_sweep(cloud, member, monkeypatch, at):
    image = await _crashed_upload(cloud, member, monkeypatch, at)
    assert cloud.kept()[0].startswith(image["id"] + ("" if at == "renamed" else "."))
    assert await cloud.services.uploads.sweep() == 1
    assert (await member.status(image), cloud.kept()) == ("queued", [])
    assert await cloud.services.uploads.sweep() == 0
    await member.upload(image, b"x" * 512)
    assert (await member.call("GET", image["file"])).content == b"x" * 512


async def test_a_sweep_keeps_what_is_wanted(cloud, member):
    image = await member.image()
    await member.upload(image, b"x" * 512)
    await member.post(f"{image['self']}/actions/deactivate", None, 204)
    orphan = cloud.folder / "0123abcd-0123-4567-89ab-0123456789ab"
    orphan.write_bytes(b"x")
    (cloud.folder / f"{image['id']}.0123.part").write_bytes(b"x")
    (cloud.folder / "README").write_text("an operator's own")
    assert await cloud.services.uploads.sweep() == 2
    assert cloud.kept() == sorted(["README", image["id"]])
    assert await member.status(image) == "deactivated"


async def test_a_sweep_leaves_what_another_process_receives(cloud, member):
    image = await member.image()
    cloud.folder.mkdir(exist_ok=True)
    partial = cloud.folder / f"{image['id']}.0123.part"
    async with cloud.database.write() as connection:
        await store.set_status(connection, [image["id"]], Status.SAVING, 0.0)
    with partial.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert await cloud.services.uploads.sweep() == 0
        assert await member.status(image) == "saving"
    assert await cloud.services.uploads.sweep() == 1
    assert (await member.status(image), cloud.kept()) == ("queued", [])


async def test_a_commit_that_fails(cloud, member, monkeypatch):
    image = await member.image()

    async def away(*_args: object):
        raise Transient("away")

    monkeypatch.setattr(cloud.services.uploads, "_finish", away)
    await member.upload(image, b"x" * 512, 503)
    monkeypatch.undo()
    assert (await member.status(image), cloud.kept()) == ("queued", [])


async def test_registered_files(cloud, member, tmp_path):
    uploads, path = cloud.services.uploads, tmp_path / "guest.qcow2"
    path.write_bytes(qcow2())
    both = await asyncio.gather(*(uploads.register_file(path, name="guest") for _ in range(2)))
    assert both[0].id == both[1].id
    shown = await member.get(f"/v2/images/{both[0].id}")
    assert (shown["status"], shown["visibility"], shown["owner"]) == ("active", "public", None)
    assert (await uploads.register_file(path, name="guest")).status is Status.ACTIVE
    await member.delete(shown["self"], 403)
    (cloud.folder / both[0].id).unlink()
    await uploads.register_file(path, name="guest")
    assert (await member.call("GET", shown["file"])).content == qcow2()
    path.write_bytes(qcow2(2 << 30))
    newer = await uploads.register_file(path, name="guest")
    listed = (await member.get("/v2/images?name=guest"))["images"]
    assert [image["id"] for image in listed] == [newer.id]
    assert await member.status(shown) == "active"
    path.write_bytes(b"no image")
    with pytest.raises(Exception, match="does not match"):
        await uploads.register_file(path, name="other")
    with pytest.raises(NotFound):
        await uploads.register_file(tmp_path / "missing", name="other")


async def test_ids_of_files_are_uuids(cloud):
    for text in ("../x", "", "x", "/etc/passwd"):
        with pytest.raises(NotFound):
            cloud.files.path(text)
    with pytest.raises((NotFound, Conflict)):
        await cloud.files.open("0123abcd-0123-4567-89ab-0123456789ab")

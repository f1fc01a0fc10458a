"""An image that is on one control machine is read at another: whole, in part, by many, from machines that fail."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from muster.base.errors import NotFound
from muster.base.ids import new_uuid
from muster.domain.images import Status
from muster.services import image_holders
from muster.services.image_incoming import Incoming
from tests.functional.image.test_host_images import cutting

from .machines import MEMBER, Machines, Way

CONTENT = os.urandom(600_000)
HANG_S = 300.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers wait as long as it takes, on however slow a machine."""
    monkeypatch.setattr(image_holders, "PATIENCE_S", HANG_S)


async def test_uploaded_at_one_read_at_the_other(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    whole, part, hosts = [await a.uploaded(CONTENT + bytes([index])) for index in range(3)]
    assert b.kept() == []
    answer = await b.by_user(whole)
    assert (answer.status_code, answer.content) == (200, CONTENT + b"\0")
    answer = await b.by_user(part, {"Range": "bytes=1000-1999"})
    assert (answer.status_code, answer.content) == (206, CONTENT[1000:2000])
    assert (await b.by_host(hosts)).content == CONTENT + b"\2"
    assert b.kept() == sorted([whole, part, hosts])
    assert (b.folder / whole).stat().st_mode & 0o077 == 0
    for image_id in (whole, part, hosts):
        assert await machines.holders(image_id) == {a.name, b.name}
        await b.by_host(image_id)
        assert a.fetches(image_id) == 1


async def test_a_hundred_readers_of_two_workers_are_one_fetch(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    other_worker = await machines.start("b", name=b.name)
    image_id = await a.uploaded(CONTENT)
    answers = await asyncio.gather(*(one.by_host(image_id) for one in [b, other_worker] * 50))
    assert all(answer.content == CONTENT for answer in answers)
    assert a.fetches(image_id) == 1


async def test_what_takes_long_is_asked_for_again(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await a.uploaded(CONTENT)
    monkeypatch.setattr(image_holders, "PATIENCE_S", 0.0)
    answer = await b.by_user(image_id)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    async with asyncio.timeout(HANG_S):
        while (answer := await b.by_user(image_id)).status_code == 503:
            await asyncio.sleep(0.05)
    assert answer.content == CONTENT
    assert a.fetches(image_id) == 1


async def test_no_fetch_makes_another(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await a.uploaded(CONTENT)
    assert (await b.by_machine(image_id)).status_code == 404
    assert (a.fetches(image_id), b.kept()) == (0, [])
    assert (await a.by_machine(image_id)).content == CONTENT


async def test_an_image_that_is_nowhere(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    assert (await b.by_host(new_uuid())).status_code == 404
    async with a.user() as user:
        image = await user.image()
    assert (await b.by_host(image["id"])).status_code == 404
    assert (await b.by_user(image["id"])).status_code == 204
    assert b.kept() == []


def _dying(after: int) -> Way:
    """A way that breaks the first connection after so many bytes, and brings nothing any more."""
    return lambda url: cutting(url, lambda index: after if index == 0 else 0)


async def test_a_holder_dies_in_the_middle_and_there_is_another(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    dying = await machines.start("c", behind=_dying(140_000))
    image_id = await a.uploaded(CONTENT)
    await dying.holder.obtain(image_id)
    assert await machines.holders(image_id) == {a.name, dying.name}
    b.order.first = (dying.name,)
    answer = await b.by_user(image_id)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert dying.fetches(image_id) > 0
    assert await machines.holders(image_id) == {a.name, b.name, dying.name}


async def test_a_holder_dies_in_the_middle_and_there_is_no_other(machines: Machines) -> None:
    b, dying = await machines.start("b"), await machines.start("c", behind=_dying(140_000))
    image_id = await dying.uploaded(CONTENT)
    answer = await b.by_user(image_id)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "gives it" in answer.json()["message"]
    assert b.kept() == []
    assert await machines.holders(image_id) == {dying.name}


async def test_a_connection_that_breaks_is_taken_up(machines: Machines) -> None:
    cuts = [140_000, 140_000, 50, 180_000]
    b = await machines.start("b")
    a = await machines.start(
        "a", behind=lambda url: cutting(url, lambda index: cuts[index] if index < len(cuts) else 10_000_000)
    )
    image_id = await a.uploaded(CONTENT)
    assert (await b.by_user(image_id)).content == CONTENT
    assert a.fetches(image_id) == len(cuts) + 1


@pytest.mark.parametrize("sent", [CONTENT[:-1] + b"\0", CONTENT[:-1], CONTENT * 2])
async def test_a_holder_that_sends_other_bytes_is_passed_over(machines: Machines, sent: bytes) -> None:
    content = CONTENT[:-1] + b"\1"
    a, b, c = [await machines.start(folder) for folder in "abc"]
    image_id = await a.uploaded(content)
    (a.folder / image_id).write_bytes(sent)
    answer = await b.by_user(image_id)
    assert answer.status_code == 503
    assert b.kept() == []
    (a.folder / image_id).write_bytes(content)
    await c.holder.obtain(image_id)
    (a.folder / image_id).write_bytes(sent)
    b.order.first = (a.name,)
    assert (await b.by_user(image_id)).content == content
    assert b.kept() == [image_id]


async def test_a_holder_that_has_lost_the_file_notices_and_is_passed_over(machines: Machines) -> None:
    a, b, c, d = [await machines.start(folder) for folder in "abcd"]
    image_id = await a.uploaded(CONTENT)
    for one in (b, c):
        await one.holder.obtain(image_id)
    (b.folder / image_id).unlink()
    b.order.first = d.order.first = (b.name, a.name)
    assert (await d.by_user(image_id)).content == CONTENT
    assert await machines.holders(image_id) == {a.name, c.name, d.name}  # b has noticed
    assert (await b.by_user(image_id)).content == CONTENT
    assert b.name in await machines.holders(image_id)


async def test_a_full_disk_here_is_told_as_that(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await a.uploaded(CONTENT)

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Incoming, "_write", full)
    answer = await b.by_user(image_id)
    assert (answer.status_code, b.kept()) == (503, [])
    assert a.fetches(image_id) == 1


async def test_an_image_that_is_deleted_while_it_is_fetched(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """... and another that gets its id has its own content everywhere."""
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await a.uploaded(CONTENT)
    seal = Incoming.seal

    async def sealed_late(incoming: Incoming) -> object:
        monkeypatch.setattr(Incoming, "seal", seal)
        async with a.user() as user:
            await user.delete(f"/v2/images/{image_id}")
        await a.uploaded(b"another" * 100, id=image_id)
        return await seal(incoming)

    monkeypatch.setattr(Incoming, "seal", sealed_late)
    assert (await b.by_host(image_id)).status_code == 404
    assert b.kept() == []
    assert await machines.holders(image_id) == {a.name}
    assert (await b.by_host(image_id)).content == b"another" * 100


async def test_a_file_of_an_image_that_had_the_same_id_is_not_given_out(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await a.uploaded(CONTENT)
    assert (await b.by_host(image_id)).content == CONTENT
    async with a.user() as user:
        await user.delete(f"/v2/images/{image_id}")
    other = CONTENT[::-1]  # of the same size
    await a.uploaded(other, id=image_id)
    assert b.kept() == [image_id]
    assert (await b.by_machine(image_id)).status_code == 404
    assert (await b.by_user(image_id)).content == other
    assert (b.folder / image_id).read_bytes() == other


async def test_a_worker_that_dies_fetching_holds_up_nobody(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await a.uploaded(CONTENT)
    dead = await b.files.receive_copy(image_id)
    assert dead is not None
    await dead.write(b"half")
    assert await b.files.receive_copy(image_id) is None
    await dead.close()  # the kernel does so; the file stays
    assert (await b.by_user(image_id)).content == CONTENT
    assert b.kept() == [image_id]


async def test_a_worker_that_ends_gives_up_its_fetch(machines: Machines) -> None:
    a = await machines.start("a", behind=lambda url: cutting(url, lambda _: None))
    b = await machines.start("b")
    image_id = await a.uploaded(CONTENT)
    reading = asyncio.create_task(b.by_host(image_id))
    async with asyncio.timeout(HANG_S):
        while not b.kept():
            await asyncio.sleep(0.01)
        await b.holder.close()
        assert (await reading).status_code == 503
    assert b.kept() == []


async def test_copies_are_made_until_there_are_enough(machines: Machines) -> None:
    a, b, c = [await machines.start(folder) for folder in "abc"]
    images = [await a.uploaded(bytes([index]) * 1000) for index in range(3)]
    async with a.user() as user:
        await user.post(f"/v2/images/{images[0]}/actions/deactivate", None, 204)
        await user.image()  # without content
    await a.copies.look()
    assert a.kept() == sorted(images)
    for _ in range(2):
        await b.copies.look()
        await c.copies.look()
    assert (b.kept(), c.kept()) == (sorted(images), [])
    (a.folder / images[1]).unlink()
    await a.copies.look()  # notices, and gets it back
    assert a.kept() == sorted(images)
    assert await machines.holders(images[1]) == {a.name, b.name}


async def test_of_a_machines_workers_one_looks_after_copies(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await a.uploaded(CONTENT)
    with b.files.copying() as mine:
        assert mine
        await b.copies.look()
        assert b.kept() == []
    await b.copies.look()
    assert b.kept() == [image_id]


async def test_a_copy_that_fails_does_not_keep_the_others_waiting(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    broken, good = [await a.uploaded(bytes([index]) * 1000) for index in range(2)]
    (a.folder / broken).write_bytes(b"x" * 1000)
    b.order.first = (broken,)
    await b.copies.look()
    assert b.kept() == [good]


async def test_files_that_come_with_the_cloud(machines: Machines, tmp_path: Path) -> None:
    """Each machine has its own, of the same id; none makes the image wait for content that another has."""
    a, b = await machines.start("a"), await machines.start("b")
    path = tmp_path / "guest.raw"
    path.write_bytes(b"guest" * 200)
    made = await a.services.uploads.register_file(path, name="guest", disk_format="raw")
    again = await b.services.uploads.register_file(path, name="guest", disk_format="raw")
    assert again == made
    assert made.status is Status.ACTIVE
    assert a.kept() == b.kept() == [made.id]
    assert await machines.holders(made.id) == {a.name, b.name}
    assert a.fetches(made.id) == b.fetches(made.id) == 0
    for one in (a, b):  # all copies are lost
        (one.folder / made.id).unlink()
    await a.services.uploads.register_file(path, name="guest", disk_format="raw")
    await b.copies.look()
    assert a.kept() == b.kept() == [made.id]


async def test_errors_of_what_is_not_there(machines: Machines) -> None:
    b = await machines.start("b")
    for text in ("../x", "", "x"):
        with pytest.raises(NotFound):
            await b.holder.open(text)
    with pytest.raises(NotFound):
        await b.services.images.download(MEMBER, new_uuid())

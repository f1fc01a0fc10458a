"""What locks decide where machines share a folder: living and dead uploads, deletion; and the change from there."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import text

from muster.base.ids import new_uuid
from muster.domain.images import Image, Status
from muster.services import image_holders
from muster.store import images as store

from .machines import MEMBER, Machine, Machines

CONTENT = os.urandom(600_000)
HANG_S = 300.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_holders, "PATIENCE_S", HANG_S)


async def status_of(machines: Machines, image_id: str) -> Status | None:
    async with machines.database.read() as connection:
        return (await store.read_statuses(connection, [image_id])).get(image_id)


async def queued(machine: Machine, image_id: str | None = None) -> str:
    """An image that waits for content."""
    async with machine.user() as user:
        more = {"id": image_id} if image_id else {}
        return (await user.image(**more))["id"]


@asynccontextmanager
async def uploading(machine: Machine, image_id: str, content: bytes = CONTENT) -> AsyncIterator[Awaitable[Image]]:
    """An upload that has begun, and ends when the block does: to be awaited behind it."""
    go_on, begun = asyncio.Event(), asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        yield content[: len(content) // 2]
        begun.set()
        await go_on.wait()
        yield content[len(content) // 2 :]

    task = asyncio.create_task(machine.services.uploads.upload(MEMBER, image_id, parts()))
    try:
        async with asyncio.timeout(HANG_S):
            await begun.wait()
        yield task
    finally:
        go_on.set()
        await asyncio.wait({task})


async def die(machine: Machine, image_id: str) -> None:
    """Leave what an upload leaves whose process is killed in the middle of it."""
    incoming = await machine.files.receive(image_id)
    async with machine.database.write() as connection:
        receiver = machine.holder.receiver if machine.name else None
        await store.set_status(connection, [image_id], Status.SAVING, 1.0, receiver=receiver)
    await incoming.write(b"half")
    await incoming.close()


async def test_a_sweep_at_one_leaves_an_upload_at_the_other(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await queued(a)
    async with uploading(a, image_id) as upload:
        for one in (b, a):
            assert await one.services.uploads.sweep() == 0
            assert await status_of(machines, image_id) is Status.SAVING
    assert (await upload).status is Status.ACTIVE
    assert await machines.holders(image_id) == {a.name}
    assert (await b.by_user(image_id)).content == CONTENT


async def test_what_an_earlier_image_left_here_says_nothing_of_an_upload_elsewhere(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await queued(a)
    b.folder.mkdir()
    for name in (image_id, f"{image_id}.0123.part", f"{image_id}.fetch.part"):
        (b.folder / name).write_bytes(b"left")
    async with uploading(a, image_id) as upload:
        assert await b.services.uploads.sweep() == 1
        assert (await status_of(machines, image_id), b.kept()) == (Status.SAVING, [])
    assert (await upload).status is Status.ACTIVE


async def test_each_sweeps_its_own_dead_uploads(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await queued(a)
    await die(a, image_id)
    await b.services.uploads.sweep()
    assert await status_of(machines, image_id) is Status.SAVING  # its machine may come back, and go on
    await a.services.uploads.sweep()
    assert (await status_of(machines, image_id), a.kept()) == (Status.QUEUED, [])
    async with b.user() as user:  # elsewhere the next time
        await user.upload({"id": image_id}, CONTENT)
    assert (await a.by_user(image_id)).content == CONTENT


@pytest.mark.parametrize(("host", "mark"), [("control-2", "one"), ("control-1", "two")])
async def test_two_machines_with_the_same_url_by_mistake_lose_no_upload(
    machines: Machines, host: str, mark: str
) -> None:
    """Also where all else is the same as well, as it may be for containers."""
    a = await machines.start("a", host="control-1", settings="/var/lib/muster", mark="one")
    b = await machines.start("b", name=a.name, host=host, settings="/var/lib/muster", mark=mark)
    image_id = await queued(a)
    async with uploading(a, image_id) as upload:
        await b.services.uploads.sweep()
        assert await status_of(machines, image_id) is Status.SAVING
    assert (await upload).status is Status.ACTIVE
    await b.copies.look()  # says in the log that the file is not here
    await a.copies.look()
    assert (await a.by_user(image_id)).content == CONTENT


async def test_an_upload_whose_machine_never_comes_back_can_be_deleted(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await queued(a)
    await die(a, image_id)
    async with b.user() as user:
        await user.delete(f"/v2/images/{image_id}")
    await a.services.uploads.sweep()
    assert a.kept() == []


async def test_a_renamed_image_is_still_its_receivers(machines: Machines) -> None:
    """Any change of the record while content arrives keeps who receives it."""
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await queued(a)
    async with uploading(a, image_id) as upload:
        async with b.user() as user:
            await user.patch({"id": image_id}, {"op": "replace", "path": "/name", "value": "other"})
        await b.services.uploads.sweep()
        await a.services.uploads.sweep()
    assert (await upload).name == "other"
    await die(a, other := await queued(a))
    async with b.user() as user:
        await user.patch({"id": other}, {"op": "replace", "path": "/name", "value": "other"})
    await b.services.uploads.sweep()
    assert await status_of(machines, other) is Status.SAVING
    await a.services.uploads.sweep()
    assert await status_of(machines, other) is Status.QUEUED


async def test_deleted_at_one_the_file_is_gone_at_both(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await a.uploaded(CONTENT)
    assert (await b.by_user(image_id)).status_code == 200
    async with a.user() as user:
        await user.delete(f"/v2/images/{image_id}")
    assert (a.kept(), b.kept()) == ([], [image_id])
    for one in (a, b):
        assert (await one.by_user(image_id)).status_code == 404
        assert (await one.by_host(image_id)).status_code == 404
        assert (await one.by_machine(image_id)).status_code == 404
    assert await b.services.uploads.sweep() == 1
    assert b.kept() == []
    assert await machines.holders(image_id) == set()


async def test_a_sweep_leaves_a_fetch_that_is_under_way(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await a.uploaded(CONTENT)
    incoming = await b.files.receive_copy(image_id)
    assert incoming is not None
    assert await b.services.uploads.sweep() == 0
    assert len(b.kept()) == 1
    await incoming.close()
    assert await b.services.uploads.sweep() == 1
    assert b.kept() == []


async def test_an_upload_whose_image_is_gone_harms_no_other_of_its_id(machines: Machines) -> None:
    a, b = await machines.start("a"), await machines.start("b")
    image_id = await queued(a)
    async with uploading(a, image_id) as slow:
        async with b.user() as user:
            await user.delete(f"/v2/images/{image_id}")
            await queued(b, image_id)
            await user.upload({"id": image_id}, b"the other" * 100)
        assert (await a.by_user(image_id)).content == b"the other" * 100
    with pytest.raises(Exception, match="deleted during its upload"):
        await slow
    for one in (a, b):
        assert (await one.by_user(image_id)).content == b"the other" * 100


async def test_a_rolling_change_from_a_shared_folder(machines: Machines) -> None:
    """All machines have the folder yet; one after the other is told its URL, and then gets a folder of its own."""
    first, second = await machines.start("shared", name=""), await machines.start("shared", name="")
    images = [await one.uploaded(CONTENT[index:]) for index, one in enumerate((first, second))]
    dead, living = await queued(first), await queued(first)
    await die(second, dead)
    a = await machines.start("shared")
    async with uploading(second, living) as upload:  # by a worker that knows no URL
        await a.copies.look()
        for one in (a, first):
            await one.services.uploads.sweep()
        assert await status_of(machines, living) is Status.SAVING
        assert await status_of(machines, dead) is Status.QUEUED
        for index, image_id in enumerate(images):
            assert (await a.by_user(image_id)).content == CONTENT[index:]
            assert await machines.holders(image_id) == {a.name}
    images.append((await upload).id)
    b = await machines.start("shared", settings="b")
    async with uploading(b, more := await queued(b)):  # and by one that knows its own
        for one in (first, a, b):
            await one.services.uploads.sweep()
            assert await status_of(machines, more) is Status.SAVING
    images.append(more)
    assert {(await first.by_user(image_id)).status_code for image_id in images} == {200}
    for one in (a, b):
        await one.copies.look()
    for image_id in images:
        assert await machines.holders(image_id) == {a.name, b.name}
    b = await machines.start("own", name=b.name, settings="b")  # the folder is b's alone now, and empty
    await b.copies.look()
    assert b.kept() == sorted(images)
    for image_id in images:
        assert await machines.holders(image_id) == {a.name, b.name}
        assert (await b.by_machine(image_id)).status_code == 200


async def test_a_version_that_knows_nothing_of_machines_works_beside(machines: Machines) -> None:
    """It writes no receiver and no holder, and sweeps whatever is `saving`; all have one folder as long as it runs."""
    a = await machines.start("shared")
    image_id, dead = new_uuid(), await queued(a)
    old = "INSERT INTO images (id, owner, name, status, visibility, disk_format, container_format, min_disk, min_ram,"
    old += " protected, os_hidden, created_at, updated_at) VALUES (:id, 'p1', 'old', 'queued', 'shared', 'raw', 'bare',"
    old += " 0, 0, :no, :no, 1.0, 1.0)"
    async with machines.database.write() as connection:
        await connection.execute(text(old), {"id": image_id, "no": False})
    incoming = await a.files.receive(image_id)
    saving = text("UPDATE images SET status = 'saving' WHERE id = :id")
    async with machines.database.write() as connection:
        await connection.execute(saving, {"id": image_id})
    await incoming.write(CONTENT)
    await a.services.uploads.sweep()
    assert await status_of(machines, image_id) is Status.SAVING
    received = await incoming.seal()
    await incoming.publish()
    await a.services.uploads.sweep()
    done = text(
        "UPDATE images SET status = 'active', size = :size, virtual_size = :size, os_hash_algo = 'sha512',"
        " checksum = :md5, os_hash_value = :sha512 WHERE id = :id"
    )
    values = {"size": received.size, "md5": received.md5, "sha512": received.sha512, "id": image_id}
    async with machines.database.write() as connection:
        await connection.execute(done, values)
    await incoming.close()
    assert (await a.by_user(image_id)).content == CONTENT
    assert await machines.holders(image_id) == {a.name}
    # What it puts back in its sweep may be received again by anybody.
    await die(a, dead)
    async with machines.database.write() as connection:
        await connection.execute(text("UPDATE images SET status = 'queued' WHERE id = :id"), {"id": dead})
    await a.services.uploads.sweep()
    async with a.user() as user:
        await user.upload({"id": dead}, CONTENT)
    assert (await a.by_user(dead)).content == CONTENT

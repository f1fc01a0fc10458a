"""Two machines with one `serve.image_url`: the one to which it does not lead harms nothing, and says what is wrong."""

import os
from pathlib import Path

import httpx
import pytest

from muster.services import image_download, image_holders

from .machines import Machine, Machines

CONTENT = os.urandom(300_000)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody waits as long as it takes, on however slow a machine."""
    monkeypatch.setattr(image_holders, "PATIENCE_S", 300.0)
    monkeypatch.setattr(image_download, "ANSWER_WITHIN_S", 60.0)


async def readiness(machine: Machine) -> tuple[int, object]:
    async with httpx.AsyncClient(base_url=machine.url, timeout=300) as http:
        answer = await http.get("/healthcheck/ready")
    return answer.status_code, answer.json().get("reasons")


async def test_a_machine_with_the_url_of_another_leaves_its_images_alone_and_takes_none_in(machines: Machines) -> None:
    right = await machines.start("a", host="control-1")
    wrong = await machines.start("b", name=right.name, host="control-2")
    image_id = await right.uploaded(CONTENT)
    for machine in (right, wrong):
        await machine.holder.watch.look()
        await machine.copies.look()
    assert await machines.holders(image_id) == {right.name}
    assert await readiness(right) == (200, None)
    assert await readiness(wrong) == (503, {"images": "serve.image_url leads to another machine"})

    assert (await wrong.by_user(image_id)).status_code == 503
    async with wrong.user() as user:
        image = await user.image()
        headers = {"Content-Type": "application/octet-stream"}
        answer = await user.call("PUT", f"/v2/images/{image['id']}/file", headers=headers, content=CONTENT)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
        assert await user.status(image) == "queued"
    assert wrong.kept() == []
    assert await machines.holders(image["id"]) == set()
    assert (await right.by_user(image_id)).content == CONTENT

    mended = await machines.start("b", host="control-2")
    await mended.holder.watch.look()
    assert await readiness(mended) == (200, None)
    assert (await mended.by_user(image_id)).content == CONTENT
    assert await machines.holders(image_id) == {right.name, mended.name}


async def test_a_machine_that_has_just_begun_removes_nothing_of_the_others_either(
    machines: Machines, tmp_path: Path
) -> None:
    """A process knows nothing of its URL at first, and looks after images and gives them out from then on."""
    right = await machines.start("a", host="control-1")
    image_id = await right.uploaded(CONTENT)
    path = tmp_path / "guest.raw"
    path.write_bytes(b"guest" * 200)
    guest = await right.services.uploads.register_file(path, name="guest", disk_format="raw")

    async def begun() -> Machine:
        return await machines.start("b", name=right.name, host="control-2")

    await (await begun()).copies.look()
    assert (await (await begun()).by_user(image_id)).status_code == 503
    assert await (await begun()).services.uploads.register_file(path, name="guest", disk_format="raw") == guest
    (tmp_path / "b").mkdir(exist_ok=True)
    (tmp_path / "b" / image_id).write_bytes(CONTENT)
    await (await begun()).copies.look()
    for one in (image_id, guest.id):
        assert await machines.holders(one) == {right.name}
    assert right.fetches(image_id) == 0


async def test_workers_of_one_machine_are_no_others(machines: Machines) -> None:
    one = await machines.start("a")
    other = await machines.start("a", name=one.name)
    for worker in (one, other):
        await worker.holder.watch.look()
        assert not worker.holder.watch.is_wrong

"""Three control machines with image folders of their own: those who have an image die, also in the middle of a fetch,
lose their disks or are cut off, and whoever is left gives it out."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from muster.base.clock import system_clock
from muster.base.image_download import TICKET
from muster.lab.build import lab_running
from muster.lab.cluster import Lab
from muster.lab.parts.control import api_url
from muster.lab.plan import API_PORT, LabSettings, Part
from muster.lab.processes import inside
from muster.services.cluster_secret import ClusterSecret
from muster.services.image_tickets import ImageTickets
from tests.audit import http, postgresql
from tests.chaos import images
from tests.chaos.judge import eventually

pytestmark = [pytest.mark.chaos, pytest.mark.root, pytest.mark.timeout(1200)]

#: Machines look once a minute for images of which there are too few copies.
PATIENCE_S = 300.0
SLOW_KBIT_S = 8_000
_FROM = re.compile(rf"\s(\S+):{API_PORT}\s*$", re.M)


class Cloud:
    """The lab as its administrator has it, at any of its machines."""

    def __init__(self, lab: Lab, scratch: Path, token: str) -> None:
        self.lab, self._scratch = lab, scratch
        self._tickets = ImageTickets(ClusterSecret(lab.site.secrets.cloud), system_clock)
        self._token = token

    async def ask(self, method: str, name: str, path: str, **more: object) -> httpx.Response:
        """One request to a machine, of which an answer is expected."""
        url = api_url(self.lab.part(name))
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
            headers = {"X-Auth-Token": self._token, **more.pop("headers", {})}  # type: ignore[dict-item]
            return await client.request(method, path, headers=headers, **more)  # type: ignore[arg-type]

    async def upload(self, name: str, content: bytes) -> str:
        """An image of this content, uploaded at a machine: its id."""
        draft = {"name": "chaos", "disk_format": "raw", "container_format": "bare"}
        image_id = str((await self.ask("POST", name, "/image/v2/images", json=draft)).json()["id"])
        kind = {"Content-Type": "application/octet-stream"}
        path = f"/image/v2/images/{image_id}/file"
        assert (await self.ask("PUT", name, path, content=content, headers=kind)).status_code == 204
        return image_id

    async def read(self, name: str, image_id: str) -> httpx.Response:
        """As a user reads it."""
        return await self.ask("GET", name, f"/image/v2/images/{image_id}/file")

    async def fetch(self, name: str, image_id: str) -> httpx.Response:
        """As a host fetches it."""
        ticket = {TICKET: self._tickets.issue(image_id)}
        return await self.ask("GET", name, f"/hosts/images/{image_id}", headers=ticket)

    async def is_given(self, name: str, image_id: str, content: bytes) -> bool:
        """Whether a machine gives it to users and hosts; until then it says 503."""
        answers = await self.read(name, image_id), await self.fetch(name, image_id)
        for answer in answers:
            assert answer.status_code == 503 or (answer.status_code, answer.content) == (200, content), answer
        return all(answer.status_code == 200 for answer in answers)

    async def given(self, names: list[str], image_id: str, content: bytes) -> None:
        for name in names:
            await eventually(f"{name} gives it", lambda name=name: self.is_given(name, image_id, content), PATIENCE_S)

    async def holders(self, image_id: str) -> set[str]:
        """The names of the machines that have it, as the database says."""
        copy = await postgresql.copied(self.lab.site.database_url, self._scratch / "copy.db")
        found = images.holders(copy, image_id)
        return {part.name for part in self.machines if api_url(part) in found}

    async def twice(self, image_id: str) -> set[str]:
        """The two machines that have it, after a minute or so."""

        async def is_so() -> bool:
            return len(await self.holders(image_id)) >= 2

        await eventually("two machines have it", is_so, PATIENCE_S)
        return await self.holders(image_id)

    async def told_true(self) -> None:
        """What the database says of files is so: at the latest when each machine has looked."""

        async def is_so() -> bool:
            copy = await postgresql.copied(self.lab.site.database_url, self._scratch / "copy.db")
            return images.untrue(self.lab, copy) == []

        await eventually("what is said of files is so", is_so, PATIENCE_S)

    @property
    def machines(self) -> list[Part]:
        return [self.lab.part(f"control-{number}") for number in (1, 2, 3)]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    settings = LabSettings(workers=3, machines=3, sim_hosts=0, own_images=True)
    with lab_running(settings, dict(os.environ)) as running:
        yield running


@pytest.fixture
async def cloud(lab: Lab, tmp_path: Path) -> Cloud:
    """All machines are at work, whatever the test before has left."""
    for part in lab.site.plan.parts:
        lab.join(part.name)
        if not lab.processes(part.name):
            lab.start(part.name)
        lab.await_ready(part)
    auth = yaml.safe_load(lab.clouds_yaml.read_text())["clouds"]["muster"]["auth"]
    token = await http.log_in(auth["auth_url"].removesuffix("/identity/v3"), auth["password"])
    return Cloud(lab, tmp_path, token)


async def test_after_its_holder_died_an_image_is_fetched_from_another(cloud: Cloud) -> None:
    content = os.urandom(3_000_000)
    image_id = await cloud.upload("control-1", content)
    assert "control-1" in await cloud.twice(image_id)
    cloud.lab.kill("control-1")
    await cloud.given(["control-2", "control-3"], image_id, content)
    assert await cloud.holders(image_id) == {"control-1", "control-2", "control-3"}
    cloud.lab.start("control-1")
    await cloud.given(["control-1"], image_id, content)
    await cloud.told_true()


async def test_a_holder_that_dies_in_the_middle_of_a_fetch_is_passed_over(cloud: Cloud) -> None:
    content = os.urandom(20_000_000)
    asked = cloud.lab.part("control-3")
    cloud.lab.stop(asked.name)  # or it might make a copy of its own at the same moment as the second one
    image_id = await cloud.upload("control-1", content)
    held = await cloud.twice(image_id)
    cloud.lab.start(asked.name)
    cloud.lab.slow(SLOW_KBIT_S, *held)
    assert (await cloud.read(asked.name, image_id)).status_code == 503  # it takes 20 s: come again
    coming = images.file_of(cloud.lab, asked, f"{image_id}.fetch.part")
    assert 0 < coming.stat().st_size < len(content)
    [dies] = _asked_of(cloud, asked)
    assert dies in held
    cloud.lab.kill(dies)
    cloud.lab.join(*held)
    await cloud.given([asked.name], image_id, content)
    cloud.lab.start(dies)
    await cloud.given([dies], image_id, content)
    await cloud.told_true()


def _asked_of(cloud: Cloud, part: Part) -> list[str]:
    """From which machines one has something coming, as its kernel says."""
    command = ["ss", "-tnH", "state", "established", "dport", "=", f":{API_PORT}"]
    said = subprocess.run(
        inside(cloud.lab.site.namespace(part), command), capture_output=True, text=True, check=True, timeout=60
    ).stdout
    return sorted({one.name for one in cloud.machines if one.address in _FROM.findall(said) and one.name != part.name})


async def test_what_was_on_a_lost_disk_is_had_from_the_others(cloud: Cloud) -> None:
    content = os.urandom(3_000_000)
    image_id = await cloud.upload("control-2", content)
    await cloud.twice(image_id)
    cloud.lab.kill("control-2")
    shutil.rmtree(images.file_of(cloud.lab, cloud.lab.part("control-2"), image_id).parent)
    cloud.lab.start("control-2")
    await cloud.given(["control-1", "control-2", "control-3"], image_id, content)
    await cloud.told_true()


async def test_an_image_whose_only_holder_is_cut_off_is_there_again_when_that_is(cloud: Cloud) -> None:
    content = os.urandom(3_000_000)
    for _ in range(10):  # the others look for what has too few copies once a minute, and may do so right now
        image_id = await cloud.upload("control-3", content)
        if await cloud.holders(image_id) == {"control-3"}:
            break
    cloud.lab.cut("control-3")
    answer = await cloud.read("control-1", image_id)
    assert answer.status_code == 503
    cloud.lab.join("control-3")
    await cloud.given(["control-1", "control-2", "control-3"], image_id, content)
    await cloud.told_true()

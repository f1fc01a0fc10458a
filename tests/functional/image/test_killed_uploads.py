"""A process that receives images is killed at any moment; what it leaves is set right by a sweep."""

import asyncio
import hashlib
import sys
from pathlib import Path

import pytest

from muster.base.clock import system_clock
from muster.domain.context import Context
from muster.domain.image_listing import ImageFilter, ImagePage, Sort
from muster.domain.images import Status
from muster.services.image_files import ImageFiles
from muster.services.image_uploads import ImageUploads
from muster.services.images import ImageService
from muster.store.engine import Database
from tests.commands import HANG_S, started
from tests.databases import make_tables

pytestmark = pytest.mark.system

ADMIN = Context(user_id="u", project_id="p1", roles=frozenset({"admin"}))

# Creates and uploads images without end, four at a time.
RECEIVER = """
import asyncio, os, sys
from pathlib import Path
from muster.base.clock import system_clock
from muster.domain.context import Context
from muster.domain.image_attributes import parse_draft
from muster.services.image_files import ImageFiles
from muster.services.image_uploads import ImageUploads
from muster.services.images import ImageService
from muster.store.engine import Database

ADMIN = Context(user_id="u", project_id="p1", roles=frozenset({"admin"}))

async def parts():
    for _ in range(3):
        yield os.urandom(600_000)
        await asyncio.sleep(0)

async def receive(images, uploads):
    while True:
        draft = parse_draft({"disk_format": "raw", "container_format": "bare"})
        image = await images.create(ADMIN, draft)
        await uploads.upload(ADMIN, image.id, parts())

async def main(folder):
    database, files = Database(f"sqlite:///{folder}/image.db"), ImageFiles(folder / "images")
    images, uploads = ImageService(database, system_clock, files), ImageUploads(database, system_clock, files)
    print("ready", flush=True)
    await asyncio.gather(*(receive(images, uploads) for _ in range(4)))

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
async def database(tmp_path: Path):
    opened = Database(f"sqlite:///{tmp_path}/image.db")
    await make_tables(opened)
    yield opened
    await opened.close()


async def test_killed_at_any_moment(database, tmp_path):
    files = ImageFiles(tmp_path / "images")
    images = ImageService(database, system_clock, files)
    uploads = ImageUploads(database, system_clock, files)
    swept, whole, rounds = 0, {}, 0
    # On a slow machine nothing may be whole, or begun, for the first few: later ones live longer.
    while rounds < 4 or (rounds < 20 and not (swept and whole)):
        await _receive_and_die(tmp_path, 0.3 * 1.2**rounds)
        rounds += 1
        swept += await uploads.sweep()
        page = ImagePage(sorts=(Sort("created_at"),), limit=1000)
        kept = await images.list(ADMIN, ImageFilter(), page)
        assert {image.status for image in kept} <= {Status.ACTIVE, Status.QUEUED}
        whole = {image.id: image for image in kept if image.status is Status.ACTIVE}
        assert {path.name for path in (tmp_path / "images").iterdir()} == set(whole)
        for image_id, image in whole.items():
            content = (tmp_path / "images" / image_id).read_bytes()
            assert hashlib.sha512(content).hexdigest() == image.os_hash_value
    assert whole
    assert swept > 0


async def _receive_and_die(folder: Path, seconds: float) -> None:
    async with started(sys.executable, "-c", RECEIVER, str(folder), stdout=asyncio.subprocess.PIPE) as process:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), HANG_S) == b"ready\n"
        await asyncio.sleep(seconds)

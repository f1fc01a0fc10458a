"""The image `guest` that every cloud has."""

from pathlib import Path

from muster.cli.guest_image import ensure_guest
from muster.host.qcow2 import write_empty

MIB = 1 << 20


async def guests(member) -> list[dict]:
    return (await member.get("/v2/images?name=guest"))["images"]


async def test_a_fresh_cloud_has_a_guest_and_a_started_again_one_has_the_same(cloud, member, tmp_path: Path):
    left = tmp_path / "empty-guest.qcow2"
    left.write_bytes(b"half of what a killed process wrote")
    await ensure_guest(cloud.services, None, tmp_path)
    [first] = await guests(member)
    assert (first["status"], first["visibility"], first["disk_format"]) == ("active", "public", "qcow2")
    assert first["virtual_size"] == 128 * MIB
    await ensure_guest(cloud.services, None, tmp_path)
    assert [image["id"] for image in await guests(member)] == [first["id"]]
    assert not left.exists()


async def test_a_built_guest_takes_the_place_of_an_empty_one_and_stays(cloud, member, tmp_path: Path):
    await ensure_guest(cloud.services, None, tmp_path)
    built = tmp_path / "guest.qcow2"
    write_empty(built, virtual_size=MIB)
    await ensure_guest(cloud.services, built, tmp_path)
    [image] = await guests(member)
    assert (image["virtual_size"], image["min_ram"]) == (MIB, 96)
    await ensure_guest(cloud.services, None, tmp_path)
    assert [found["id"] for found in await guests(member)] == [image["id"]]


async def test_an_image_of_a_user_is_not_taken_for_it(cloud, member, tmp_path: Path):
    await member.image(name="theirs", muster_registered="guest")
    await ensure_guest(cloud.services, None, tmp_path)
    assert len(await guests(member)) == 1

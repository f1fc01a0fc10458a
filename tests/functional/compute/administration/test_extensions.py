"""Extensions, the empty list of migrations, and what Nova no longer has."""

import pytest

from muster.api.compute.extensions import EXTENSIONS


async def test_extensions(member):
    listed = (await member.get("/extensions"))["extensions"]
    assert [one["alias"] for one in listed] == sorted(EXTENSIONS)
    assert set(listed[0]) == {"alias", "name", "description", "links", "namespace", "updated"}
    assert (await member.get("/extensions/os-keypairs"))["extension"]["name"] == "Keypairs"
    await member.get("/extensions/os-cells", status=404)


async def test_there_are_no_migrations(admin, member):
    for version in ("2.1", "2.23", "2.59", "2.96"):
        assert (await admin.get("/os-migrations?status=done", v=version)) == {"migrations": []}
    await member.get("/os-migrations", status=403)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_nova_gave_away_is_not_found_in_any_version(shared_bed):
    admin = shared_bed.client("admin@p/u")
    paths = ["os-tenant-networks", "os-networks", "os-floating-ips", "os-floating-ip-pools", "os-security-groups"]
    paths += ["os-volumes", "os-snapshots", "os-fping", "os-cells", "os-cloudpipe", "os-certificates", "images"]
    paths += ["os-agents", "os-assisted-volume-snapshots", "os-server-external-events"]
    for path in paths:
        for version in ("2.1", "2.96"):
            refusal = await admin.refusal("GET", f"/{path}", v=version)
            assert refusal[:2] == (404, "itemNotFound"), path
            assert refusal[2].startswith("The resource could not be found"), path
    assert (await admin.refusal("GET", "/os-networks"))[2].endswith("use the network API.")
    assert (await admin.refusal("GET", "/nothing"))[2] == "The resource could not be found."

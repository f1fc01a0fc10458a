"""The stock `openstack` command and openstacksdk against the API over a real socket."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from keystoneauth1.session import Session
from keystoneauth1.token_endpoint import Token
from openstack.connection import Connection
from openstack.exceptions import ForbiddenException, HttpException

from muster.api.http.mounts import Mounts
from muster.api.http.responses import Response
from tests.openstack_command import OpenStack, openstack_command
from tests.serving import serving

from .conftest import Cloud
from .test_files import qcow2

pytestmark = pytest.mark.system


@pytest.fixture
async def endpoint(cloud: Cloud) -> AsyncIterator[str]:
    """The API on a free loopback port, under `/image` as in a whole cloud."""
    async with serving(Mounts({"/image": cloud.app, "/identity": identity})) as base_url:
        yield base_url + "/image"


async def identity(scope, _receive, send) -> None:
    """As much of an identity service as the command asks before it shares an image: any project exists."""
    if scope["path"].startswith("/v3/projects/"):
        answer = Response({"project": {"id": scope["path"].split("/")[-1], "name": "p", "links": {}}})
    else:
        links = [{"rel": "self", "href": f"http://{dict(scope['headers'])[b'host'].decode()}/identity/v3/"}]
        answer = Response({"version": {"id": "v3.14", "status": "stable", "links": links}})
    await answer.send(send)


def user(endpoint: str, token: str) -> dict[str, str]:
    """The environment of a user of one project."""
    return {
        "OS_AUTH_TYPE": "admin_token",
        "OS_ENDPOINT": endpoint,
        "OS_IDENTITY_ENDPOINT_OVERRIDE": endpoint.replace("/image", "/identity/v3"),
        "OS_IMAGE_ENDPOINT_OVERRIDE": endpoint,  # the version is then discovered, as behind a catalog
        "OS_TOKEN": token,
    }


@pytest.mark.timeout(900)
async def test_the_command(endpoint, tmp_path, cloud):
    with openstack_command(tmp_path / "home", user(endpoint, "admin@p1")) as openstack:
        await asyncio.to_thread(_use_command, openstack, endpoint, tmp_path)
    assert cloud.kept() == []


def _use_command(openstack: OpenStack, endpoint: str, tmp_path: Path) -> None:
    source, saved = tmp_path / "source.qcow2", tmp_path / "saved"
    source.write_bytes(qcow2())
    formats = "--disk-format qcow2 --container-format bare"
    made = f"image create {formats} --min-disk 1 --property os_distro=debian --tag small --file {source} g1"
    image = openstack.json(made)
    shown = openstack.json("image show g1")
    assert (shown["status"], shown["min_disk"], shown["tags"]) == ("active", 1, ["small"])
    assert shown["properties"]["os_distro"] == "debian"
    assert shown["properties"]["os_hash_value"] == hashlib.sha512(qcow2()).hexdigest()
    openstack(f"image save --file {saved} g1")
    assert saved.read_bytes() == qcow2()
    openstack("image set --property a=b --name g2 --min-ram 64 --protected g1")
    openstack("image unset --property os_distro --tag small g2")
    listed = openstack.json("image list --long --property a=b")
    assert [(row["Name"], row["Status"], row["Tags"]) for row in listed] == [("g2", "active", [])]
    openstack("image delete g2", status=1)
    openstack("image set --unprotected --shared g2")
    openstack("image add project g2 p2")
    assert "pending" in openstack("image member list g2")
    theirs = openstack.with_environment(user(endpoint, "member@p2"))
    theirs(f"image set --accept --project p2 {image['id']}")
    assert (theirs("image list --shared --member-status accepted -f value -c Name")).split() == ["g2"]
    openstack("image remove project g2 p2")
    source.write_bytes(qcow2(backing=200))
    refused = openstack(f"image create {formats} --file {source} bad", status=1)
    assert "it has a backing file" in refused
    assert openstack.json("image list --name bad") == []
    assert "not one of qcow2, raw" in openstack(f"image create --disk-format vmdk --file {source} bad", status=1)
    openstack("image delete g2")


@pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK50Warning")  # the SDK warns of itself
@pytest.mark.filterwarnings("ignore::openstack.warnings.RemovedInSDK60Warning")
async def test_the_sdk(endpoint, cloud):
    await asyncio.to_thread(_use_sdk, endpoint)
    assert len(cloud.kept()) == 0


def connect(endpoint: str, token: str) -> Connection:
    return Connection(session=Session(auth=Token(endpoint, token)), image_endpoint_override=endpoint)


def _use_sdk(endpoint: str) -> None:
    content = os.urandom(1_500_000)
    with connect(endpoint, "admin@p1") as connection:
        client = connection.image
        options = {"disk_format": "raw", "container_format": "bare", "validate_checksum": True}
        made = client.create_image("disk", data=content, wait=True, visibility="public", **options)
        assert (made.status, made.hash_value) == ("active", hashlib.sha512(content).hexdigest())
        assert client.find_image("disk").id == made.id
        assert client.download_image(made).content == content
        parts = client.download_image(made, stream=True)
        assert b"".join(parts.iter_content(65_536)) == content
        client.update_image(made, name="renamed", colour="red")
        assert client.get_image(made.id).properties["colour"] == "red"
        client.deactivate_image(made)
        assert client.get_image(made.id).status == "deactivated"
        client.reactivate_image(made)
        client.add_tag(made, "t")
        for number in range(3):
            client.create_image(f"n{number}", data=b"x" * 512, wait=True, **options)
        assert [image.name for image in client.images(limit=1, sort="name:asc")] == ["n0", "n1", "n2", "renamed"]
        assert [image.name for image in client.images(tag="t")] == ["renamed"]
        client.update_image(made.id, visibility="shared")
        client.add_member(made, member="p2")
        with connect(endpoint, "member@p2") as theirs:
            theirs.image.update_member("p2", made.id, status="accepted")
            assert [image.name for image in theirs.image.images()] == ["renamed"]
            with pytest.raises(ForbiddenException):
                theirs.image.delete_image(made.id)
        assert [member.status for member in client.members(made)] == ["accepted"]
        with pytest.raises(HttpException, match="content is 'vmdk'"):
            client.create_image("bad", data=b"KDMV" + bytes(5000), wait=True, **options)
        assert client.get_import_info().import_methods["value"] == []
        assert [store.id for store in client.stores()] == ["file"]
        assert client.get_image_schema().properties["disk_format"]["enum"] == [None, "qcow2", "raw"]
        for image in list(client.images()):
            client.delete_image(image)


async def test_a_connection_that_breaks(endpoint, cloud, member):
    image = await member.image()
    host, port = endpoint.split("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"PUT /image{image['file']} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: member@p1\r\nContent-Length: 2000000\r\n"
    writer.write(head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + bytes(1_500_000))
    await writer.drain()
    while not cloud.kept():
        await asyncio.sleep(0.01)
    writer.close()
    await writer.wait_closed()
    while cloud.kept() or await member.status(image) != "queued":
        await asyncio.sleep(0.01)
    assert reader is not None

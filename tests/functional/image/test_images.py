"""Records: create, show, change, delete, tags."""

import re

import pytest

from .conftest import PATCH

IMAGE_KEYS = {
    *("id", "name", "status", "visibility", "owner", "disk_format", "container_format", "size", "virtual_size"),
    *("checksum", "os_hash_algo", "os_hash_value", "min_disk", "min_ram", "protected", "os_hidden", "tags"),
    *("created_at", "updated_at", "self", "file", "schema"),
}


def change(op: str, path: str, *value: object) -> dict:
    return {"op": op, "path": path} | ({"value": value[0]} if value else {})


async def test_create_show_delete(member, cloud):
    response = await member.call(
        "POST", "/v2/images", json={"name": "a/../b", "tags": ["y", "x", "y"], "colour": "red"}
    )
    assert response.status_code == 201
    image = response.json()
    assert response.headers["location"] == f"http://cloud/v2/images/{image['id']}"
    assert set(image) == IMAGE_KEYS | {"colour"}
    assert image == await member.get(f"/v2/images/{image['id']}")
    assert (image["status"], image["visibility"], image["owner"]) == ("queued", "shared", "p1")
    assert (image["size"], image["checksum"], image["disk_format"], image["tags"]) == (None, None, None, ["x", "y"])
    assert image["created_at"] == "2027-01-15T08:00:00Z"
    assert image["file"] == f"/v2/images/{image['id']}/file"
    await member.delete(f"/v2/images/{image['id']}")
    await member.get(f"/v2/images/{image['id']}", 404)
    await member.delete(f"/v2/images/{image['id']}", 404)


async def test_an_id_may_be_chosen_once(member, other):
    chosen = "0123ABCD-0123-4567-89ab-0123456789ab"
    assert (await member.image(id=chosen))["id"] == chosen.lower()
    body = await other.post("/v2/images", {"id": chosen}, 409)
    assert body["message"] == f"Image ID {chosen.lower()} already exists!"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"disk_format": "vmdk"}, 400),
        ({"disk_format": "iso"}, 400),
        ({"container_format": "docker"}, 400),
        ({"name": 5}, 400),
        ({"name": "x" * 256}, 400),
        ({"name": "a\0b"}, 400),
        ({"id": "../../etc/passwd"}, 400),
        ({"id": 7}, 400),
        ({"visibility": "secret"}, 400),
        ({"visibility": ["public"]}, 400),
        ({"min_disk": -1}, 400),
        ({"min_ram": 1 << 31}, 400),
        ({"min_ram": 10**30}, 400),
        ({"min_disk": 1.5}, 400),
        ({"min_disk": True}, 400),
        ({"protected": "yes"}, 400),
        ({"tags": "a"}, 400),
        ({"tags": ["x" * 256]}, 400),
        ({"tags": [{}]}, 400),
        ({"tags": list("abcde")}, 413),
        ({"colour": 5}, 400),
        ({"colour": None}, 400),
        ({"x" * 256: "v"}, 400),
        ({"": "v"}, 400),
        ({"v": "x" * 65_536}, 400),
        ({str(number): "v" for number in range(6)}, 413),
        ({"status": "active"}, 403),
        ({"size": 5}, 403),
        ({"checksum": "x"}, 403),
        ({"self": "x"}, 403),
        ({"locations": []}, 403),
        ({"os_glance_import": "x"}, 403),
        ({"owner": "p2"}, 403),
        ({"owner": None}, 403),
        ({"visibility": "public"}, 403),
        ([], 400),
        ("x", 400),
    ],
)
async def test_what_cannot_be_created(member, body, status):
    await member.post("/v2/images", body, status)
    assert await member.names() == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"name": "\\ud800"}', b'{"min_ram": 1e999}'])
async def test_bodies_that_are_no_json(member, body):
    response = await member.call("POST", "/v2/images", content=body)
    assert response.status_code == 400


async def test_an_admin_may_give_away_and_publish(admin, other):
    image = await admin.image(owner="p2", visibility="public")
    assert (image["owner"], image["visibility"]) == ("p2", "public")
    await other.patch(image, change("replace", "/name", "mine"))


async def test_a_patch_changes_all_or_nothing(member, cloud):
    image = await member.image(colour="red", tags=["a"])
    cloud.clock.now_s += 60
    changed = await member.patch(
        image,
        change("replace", "/name", "n"),
        change("replace", "/colour", "blue"),
        change("add", "/os~1dis~0tro", "x"),
        change("add", "/min_ram", 64),
        change("replace", "/tags", ["b"]),
        change("add", "/visibility", "private"),
    )
    assert (changed["name"], changed["colour"], changed["os/dis~tro"], changed["min_ram"]) == ("n", "blue", "x", 64)
    assert (changed["tags"], changed["visibility"]) == (["b"], "private")
    assert changed["updated_at"] == "2027-01-15T08:01:00Z"
    assert changed["created_at"] == "2027-01-15T08:00:00Z"
    await member.patch(changed, change("replace", "/name", "lost"), change("remove", "/missing"), status=409)
    assert await member.get(f"/v2/images/{image['id']}") == changed
    removed = await member.patch(changed, change("remove", "/colour"), change("remove", "/os~1dis~0tro"))
    assert "colour" not in removed
    assert "os/dis~tro" not in removed


async def test_the_older_dialect(member):
    image = await member.image(colour="red")
    kind = "application/openstack-images-v2.0-json-patch"
    changed = await member.patch(image, {"replace": "/name", "value": "n"}, {"remove": "/colour"}, kind=kind)
    assert changed["name"] == "n"
    assert "colour" not in changed
    await member.patch(image, {"replace": "/name", "add": "/name", "value": "n"}, status=400, kind=kind)


@pytest.mark.parametrize(
    ("item", "status"),
    [
        ("x", 400),
        ({}, 400),
        ({"op": "add"}, 400),
        (change("move", "/name", "x"), 400),
        (change("add", "/name"), 400),
        (change("add", "name", "x"), 400),
        (change("add", 5, "x"), 400),
        (change("add", "/", "x"), 400),
        (change("add", "/tags/-", "x"), 400),
        (change("add", "/a~2", "x"), 400),
        (change("add", "/a\0", "x"), 400),
        (change("add", "/colour", 5), 400),
        (change("add", "/min_ram", "5"), 400),
        (change("replace", "/visibility", None), 400),
        (change("replace", "/disk_format", "vdi"), 400),
        (change("replace", "/status", "active"), 403),
        (change("replace", "/id", "x"), 403),
        (change("remove", "/checksum"), 403),
        (change("add", "/locations/-", {}), 403),
        (change("add", "/deleted", "x"), 403),
        (change("remove", "/name"), 403),
        (change("replace", "/owner", "p2"), 403),
        (change("replace", "/visibility", "public"), 403),
        (change("replace", "/missing", "x"), 409),
        (change("remove", "/missing"), 409),
        (change("replace", "/tags", list("abcde")), 413),
    ],
)
async def test_what_cannot_be_changed(member, item, status):
    image = await member.image()
    await member.patch(image, item, status=status)
    assert await member.get(f"/v2/images/{image['id']}") == image


async def test_a_patch_must_say_what_it_is(member):
    image = await member.image()
    for kind in ("application/json", "application/json-patch+json", ""):
        path = f"/v2/images/{image['id']}"
        response = await member.call("PATCH", path, content=b"[]", headers={"Content-Type": kind})
        assert response.status_code == 415
        assert "openstack-images-v2.1-json-patch" in response.headers["accept-patch"]


async def test_formats_are_fixed_with_the_content(member):
    image = await member.image()
    await member.upload(image, b"x" * 512)
    await member.patch(image, change("replace", "/disk_format", "qcow2"), status=403)
    await member.patch(image, change("replace", "/disk_format", "raw"), change("replace", "/name", "n"))


async def test_protected(member):
    image = await member.image(protected=True)
    body = await member.delete(f"/v2/images/{image['id']}", 403)
    assert body["message"] == f"Image {image['id']} is protected and cannot be deleted."
    await member.patch(image, change("replace", "/protected", False))
    await member.delete(f"/v2/images/{image['id']}")


async def test_tags(member):
    image = await member.image()
    path = f"/v2/images/{image['id']}/tags"
    for tag in ("a", "a", "b%20c", "d", "e"):
        await member.put(f"{path}/{tag}", status=204)
    assert (await member.get(f"/v2/images/{image['id']}"))["tags"] == ["a", "b c", "d", "e"]
    await member.put(f"{path}/f", status=413)
    await member.put(f"{path}/{'x' * 256}", status=400)
    await member.put(f"{path}/a%00b", status=404)
    await member.delete(f"{path}/a")
    await member.delete(f"{path}/a", 404)
    assert (await member.get(f"/v2/images/{image['id']}"))["tags"] == ["b c", "d", "e"]


async def test_ids_that_are_none(member):
    for text in ("x", "%00", "..%2f..%2fetc", "%ff", "'; drop table images"):
        await member.get(f"/v2/images/{text}", 404)
        await member.delete(f"/v2/images/{text}", 404)


async def test_many_shows_at_once_each_see_their_own(cloud, member, other):
    import asyncio

    mine, theirs = await member.image(), await other.image()
    calls = [
        client.call("GET", f"/v2/images/{image['id']}")
        for _ in range(20)
        for client in (member, other)
        for image in (mine, theirs)
    ]
    statuses = [response.status_code for response in await asyncio.gather(*calls)]
    assert statuses == [200, 404, 404, 200] * 20


async def test_an_empty_id_names_no_image(member):
    await member.get("/v2/images/", 404)
    await member.delete("/v2/images/", 404)


async def test_a_huge_body_is_too_large(cloud, member):
    huge = b'{"name": "' + b"x" * 1_100_000 + b'"}'
    image = await member.image()
    for method, path, kind in (
        ("POST", "/v2/images", "application/json"),
        ("PATCH", f"/v2/images/{image['id']}", PATCH),
        ("POST", f"/v2/images/{image['id']}/members", "application/json"),
    ):
        response = await member.call(method, path, content=huge, headers={"Content-Type": kind})
        assert response.status_code == 413, (method, path, response.text)
        assert response.json()["code"].startswith("413")
    assert await member.names() == [image["name"]]


@pytest.mark.parametrize("accept", ["*/*", "text/html,application/xhtml+xml,*/*;q=0.8", None])
async def test_errors_are_pages_to_who_asks_for_no_json(member, cloud, accept):
    """As from Glance: python-glanceclient, which asks for anything, fails on its errors in JSON."""
    cloud.http.headers.pop("Accept")
    headers = {"X-Auth-Token": member.token} | ({"Accept": accept} if accept else {})
    response = await cloud.http.get("/v2/images/<b>", headers=headers)
    assert (response.status_code, response.headers["Content-Type"]) == (404, "text/html; charset=UTF-8")
    lines = dict.fromkeys(re.sub(r"<.+?>", "", line.strip()) for line in response.text.splitlines())
    assert [line for line in lines if line] == ["404 Not Found", "No image found with ID &lt;b&gt;"]
    response = await cloud.http.post("/v2/nothing", headers=headers)
    assert "The resource could not be found." in response.text


@pytest.mark.parametrize("accept", ["application/json", "application/json, text/plain, */*", "", "application/xml"])
async def test_errors_are_json_to_others(member, accept):
    response = await member.call("GET", "/v2/images/x", headers={"Accept": accept})
    assert (response.status_code, response.headers["Content-Type"]) == (404, "application/json")
    assert response.json()["message"] == "No image found with ID x"


async def test_a_missing_token_is_told_as_by_keystones_middleware(cloud):
    response = await cloud.client("").call("GET", "/v2/images", headers={"Accept": "*/*"})
    assert (response.status_code, response.json()["error"]["code"]) == (401, 401)

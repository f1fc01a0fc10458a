"""Every route with every kind of caller, and other projects' images."""

import pytest

from muster.domain.policies import Rule

CALLERS = {
    "admin": "admin@adm",
    "manager": "manager@p1",
    "member": "member@p1",
    "reader": "reader@p1",
    "service": "service@p1",
    "nobody": "none@p1",
    "unscoped": "member@",
    "anonymous": "",
    "liar": "nonsense",
}
PASSES = {
    Rule.PUBLIC: set(CALLERS),
    Rule.AUTHENTICATED: set(CALLERS) - {"anonymous", "liar"},
    Rule.PROJECT_READER: {"admin", "manager", "member", "reader"},
    Rule.PROJECT_MEMBER: {"admin", "manager", "member"},
}


def expected_rule(method: str, path: str) -> Rule:
    if path in ("/", "/versions", "/v2"):
        return Rule.PUBLIC
    if "/schemas/" in path or "/info/" in path:
        return Rule.AUTHENTICATED
    return Rule.PROJECT_READER if method == "GET" and not path.endswith("/file") else Rule.PROJECT_MEMBER


async def test_every_route_with_every_caller(cloud):
    assert len(cloud.app.routes) == 25
    for (method, path), route in cloud.app.routes.items():
        assert route.rule is expected_rule(method, path), (method, path)
        url = path.format(image_id="x", member_id="x", tag="x")
        for caller, token in CALLERS.items():
            response = await cloud.client(token).call(method, url)
            if caller in PASSES[route.rule]:
                assert response.status_code not in (401, 403), (caller, method, path)
                assert response.status_code < 500, (caller, method, path)
            else:
                refusal = 401 if caller in ("anonymous", "liar") else 403
                assert response.status_code == refusal, (caller, method, path)


BODIES = {
    ("PUT", "/v2/images/{image_id}/file"): {"content": b"x", "headers": {"Content-Type": "application/octet-stream"}},
    ("PATCH", "/v2/images/{image_id}"): {
        "content": b'[{"op": "add", "path": "/a", "value": "b"}]',
        "headers": {"Content-Type": "application/openstack-images-v2.1-json-patch"},
    },
    ("POST", "/v2/images/{image_id}/members"): {"json": {"member": "p9"}},
    ("PUT", "/v2/images/{image_id}/members/{member_id}"): {"json": {"status": "accepted"}},
}


@pytest.mark.parametrize(
    ("visibility", "sees"), [("private", False), ("shared", False), ("community", True), ("public", True)]
)
async def test_other_projects_images(cloud, admin, visibility, sees):
    image = await admin.image(owner="p1", visibility=visibility, tags=["t"])
    await cloud.client("member@p1").upload(image, b"x" * 512)
    before = await admin.get(f"/v2/images/{image['id']}")
    other = cloud.client("member@p2")
    tried = 0
    for method, path in cloud.app.routes:
        if "{image_id}" not in path:
            continue
        url = path.format(image_id=image["id"], member_id="p3", tag="t")
        status = (await other.call(method, url, **BODIES.get((method, path), {}))).status_code
        if not sees:
            assert status == 404, (method, path, status)
        elif method == "GET" and not path.endswith("/members") and "{member_id}" not in path:
            assert status == 200, (method, path, status)
        else:
            assert status in (403, 404), (method, path, status)
        tried += 1
    assert tried == 14
    assert await admin.get(f"/v2/images/{image['id']}") == before


async def test_discovery(cloud, member):
    anyone = cloud.client("")
    response = await anyone.call("GET", "/")
    assert response.status_code == 300
    versions = response.json()["versions"]
    assert versions[0]["links"] == [{"rel": "self", "href": "http://cloud/v2/"}]
    assert [version["status"] for version in versions].count("CURRENT") == 1
    assert (await anyone.get("/versions"))["versions"] == versions
    assert (await anyone.get("/v2/"))["versions"] == versions
    schema = await member.get("/v2/schemas/image")
    assert set(schema["properties"]) <= set(await member.image())
    assert (await member.get("/v2/schemas/images"))["properties"]["images"]["items"] == schema
    assert (await member.get("/v2/schemas/members"))["properties"]["members"]["items"]["name"] == "member"
    assert (await member.get("/v2/info/import"))["import-methods"]["value"] == []
    assert (await member.get("/v2/info/stores"))["stores"][0]["id"] == "file"
    await member.get("/v2/nothing", 404)
    assert (await member.call("PUT", "/v2/images")).status_code == 405
    unknown = await anyone.call("GET", "/v2/images")
    assert unknown.json()["error"]["code"] == 401

"""Sharing: an image's owner names projects, each project says yes or no."""


async def test_sharing(member, other, cloud):
    image = await member.image(name="shared")
    await member.upload(image, b"x" * 512)
    path = f"/v2/images/{image['id']}"
    made = await member.post(f"{path}/members", {"member": "p2"}, 200)
    assert made == {
        "image_id": image["id"],
        "member_id": "p2",
        "status": "pending",
        "created_at": "2027-01-15T08:00:00Z",
        "updated_at": "2027-01-15T08:00:00Z",
        "schema": "/v2/schemas/member",
    }
    assert (await other.get(path))["name"] == "shared"
    assert (await other.call("GET", f"{path}/file")).content == b"x" * 512
    assert await other.names() == []
    assert await other.names("?member_status=pending&visibility=shared") == ["shared"]
    cloud.clock.now_s += 5
    accepted = await other.put(f"{path}/members/p2", {"status": "accepted"})
    assert (accepted["status"], accepted["updated_at"]) == ("accepted", "2027-01-15T08:00:05Z")
    assert await other.names() == ["shared"]
    await other.put(f"{path}/members/p2", {"status": "rejected"})
    assert await other.names() == []
    assert await other.names("?member_status=all") == ["shared"]
    await member.delete(f"{path}/members/p2")
    await other.get(path, 404)


async def test_who_sees_and_changes_members(cloud, member, other, admin):
    image = await member.image()
    path = f"/v2/images/{image['id']}/members"
    for project in ("p2", "p3"):
        await member.post(path, {"member": project}, 200)
    third = cloud.client("member@p3")
    assert [item["member_id"] for item in (await member.get(path))["members"]] == ["p2", "p3"]
    assert [item["member_id"] for item in (await other.get(path))["members"]] == ["p2"]
    await cloud.client("member@p4").get(path, 404)
    await other.get(f"{path}/p2")
    await other.get(f"{path}/p3", 404)
    await member.get(f"{path}/p3")
    await third.put(f"{path}/p2", {"status": "accepted"}, 404)
    await member.put(f"{path}/p2", {"status": "accepted"}, 403)
    await admin.put(f"{path}/p2", {"status": "accepted"})
    await other.delete(f"{path}/p2", 403)
    await other.post(path, {"member": "p5"}, 403)
    await member.post(path, {"member": "p2"}, 409)
    await member.post(path, {"member": "p5"}, 413)
    assert len((await member.get(path))["members"]) == 2
    await member.delete(f"{path}/p9", 404)


async def test_only_shared_images_have_members(member, admin):
    for visibility in ("private", "community"):
        image = await member.image(visibility=visibility)
        body = await member.post(f"/v2/images/{image['id']}/members", {"member": "p2"}, 403)
        assert body["message"] == "Only shared images have members."
        await member.get(f"/v2/images/{image['id']}/members", 403)


async def test_bad_bodies(member, other):
    image = await member.image()
    path = f"/v2/images/{image['id']}/members"
    for body in ({}, {"member": ""}, {"member": 5}, {"member": "x" * 256}, {"member": "a\0"}, [], None):
        await member.post(path, body, 400)
    await member.post(path, {"member": "p2"}, 200)
    for body in ({}, {"status": "maybe"}, {"status": None}, {"status": []}):
        await other.put(f"{path}/p2", body, 400)


async def test_members_go_with_the_image(member, other):
    image = await member.image()
    await member.post(f"/v2/images/{image['id']}/members", {"member": "p2"}, 200)
    await member.delete(f"/v2/images/{image['id']}")
    await member.image(id=image["id"])
    assert (await member.get(f"/v2/images/{image['id']}/members"))["members"] == []

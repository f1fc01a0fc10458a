"""Users, groups and passwords."""

from .world import Admin, World


async def test_a_user_keeps_what_it_was_given(admin: Admin) -> None:
    body = {
        "user": {
            "name": " alice ",
            "password": "pw",
            "email": "alice@example.org",
            "description": "a person",
            "room": {"floor": 3},
            "options": {"lock_password": True},
        }
    }
    user = (await admin.call("POST", "/users", body, expect=201))["user"]

    assert user["name"] == "alice"
    assert user["email"] == "alice@example.org"
    assert user["room"] == {"floor": 3}
    assert user["options"] == {"lock_password": True}
    assert user["domain_id"] == "default"
    assert user["enabled"] is True
    assert user["password_expires_at"] is None
    assert "default_project_id" not in user
    assert not [key for key in user if "password" in key and key != "password_expires_at"]
    assert user["links"] == {"self": f"http://cloud:8774/identity/v3/users/{user['id']}"}
    assert (await admin.call("GET", f"/users/{user['id']}"))["user"] == user


async def test_update_changes_only_what_it_names(admin: Admin) -> None:
    alice = await admin.user("alice", email="a@example.org", default_project_id="0" * 32)

    user = (await admin.call("PATCH", f"/users/{alice.id}", {"user": {"name": "alicia"}}))["user"]
    assert (user["name"], user["email"], user["default_project_id"]) == ("alicia", "a@example.org", "0" * 32)
    user = (await admin.call("PATCH", f"/users/{alice.id}", {"user": {"default_project_id": None}}))["user"]
    assert "default_project_id" not in user
    assert user["email"] == "a@example.org"


async def test_names_are_unique_in_a_domain(admin: Admin) -> None:
    await admin.user("alice")
    other = await admin.domain("other")
    await admin.user("alice", domain_id=other)

    body = {"user": {"name": "alice"}}
    assert (await admin.call("POST", "/users", body, expect=409))["error"]["title"] == "Conflict"
    bob = await admin.user("bob")
    await admin.call("PATCH", f"/users/{bob.id}", body, expect=409)


async def test_a_user_needs_a_domain_that_exists(admin: Admin) -> None:
    project = await admin.project("demo")
    for domain_id in ("0" * 32, project):
        await admin.call("POST", "/users", {"user": {"name": "x", "domain_id": domain_id}}, expect=404)


async def test_filters_and_pages(admin: Admin) -> None:
    for name in ("web-1", "web-2", "WEB-3", "db_1", "db%1"):
        await admin.user(name, enabled=name != "web-2")

    async def names(query: str) -> list[str]:
        found = await admin.call("GET", f"/users?{query}")
        return sorted(user["name"] for user in found["users"])

    assert await names("name=web-1") == ["web-1"]
    assert await names("name__contains=eb-") == ["web-1", "web-2"]
    assert await names("name__icontains=eb-") == ["WEB-3", "web-1", "web-2"]
    assert await names("name__startswith=web&enabled=true") == ["web-1"]
    assert await names("name__iendswith=-3") == ["WEB-3"]
    assert await names("enabled=false") == ["web-2"]
    assert await names("name__contains=_") == ["db_1"]
    assert await names("name__contains=%25") == ["db%1"]
    assert await names("domain_id=nowhere") == []

    seen, path = [], "/users?limit=2"
    while path:
        page = await admin.call("GET", path)
        assert len(page["users"]) <= 2
        seen += [user["name"] for user in page["users"]]
        path = (page["links"]["next"] or "").removeprefix("http://cloud:8774/identity/v3")
    assert sorted(seen) == ["WEB-3", "admin", "db%1", "db_1", "web-1", "web-2"]


async def test_a_user_changes_the_own_password(world: World, admin: Admin) -> None:
    alice = await admin.user("alice")
    old = await alice.token()

    async def change(original: str, password: str) -> int:
        body = {"user": {"original_password": original, "password": password}}
        return (await world.call("POST", f"/users/{alice.id}/password", body)).status_code

    assert await change("wrong", "new") == 401
    assert await change(alice.password, alice.password) == 400
    assert await change(alice.password, "") == 400
    assert await world.is_valid(old)
    assert await change(alice.password, "new") == 204
    assert not await world.is_valid(old)
    assert (await world.log_in(alice.id, alice.password)).status_code == 401
    assert (await world.log_in(alice.id, "new")).status_code == 201
    body = {"user": {"original_password": "x", "password": "y"}}
    assert (await world.call("POST", f"/users/{'0' * 32}/password", body)).status_code == 401


async def test_a_locked_password_stays(world: World, admin: Admin) -> None:
    alice = await admin.user("alice", options={"lock_password": True})
    body = {"user": {"original_password": alice.password, "password": "new"}}

    assert (await world.call("POST", f"/users/{alice.id}/password", body)).status_code == 403
    assert (await world.log_in(alice.id, alice.password)).status_code == 201


async def test_groups_and_their_members(admin: Admin) -> None:
    alice = await admin.user("alice")
    crew = await admin.group("crew")
    member = f"/groups/{crew}/users/{alice.id}"

    await admin.call("GET", member, expect=404)
    await admin.call("PUT", member, expect=204)
    await admin.call("PUT", member, expect=204)
    await admin.call("HEAD", member, expect=204)
    assert [user["id"] for user in (await admin.call("GET", f"/groups/{crew}/users"))["users"]] == [alice.id]
    assert [group["id"] for group in (await admin.call("GET", f"/users/{alice.id}/groups"))["groups"]] == [crew]
    await admin.call("DELETE", member, expect=204)
    await admin.call("DELETE", member, expect=404)
    group = await admin.call("PATCH", f"/groups/{crew}", {"group": {"description": "who sail"}})
    assert group["group"]["description"] == "who sail"
    await admin.call("DELETE", f"/groups/{crew}")
    await admin.call("GET", f"/groups/{crew}", expect=404)


async def test_a_deleted_user_leaves_nothing(admin: Admin) -> None:
    alice, project = await admin.user("alice"), await admin.project("demo")
    await admin.grant("member", alice.id, project)
    await admin.call("DELETE", f"/users/{alice.id}")

    await admin.call("GET", f"/users/{alice.id}", expect=404)
    found = await admin.call("GET", f"/role_assignments?scope.project.id={project}")
    assert found["role_assignments"] == []

"""Projects, their tree and tags; and domains."""

from typing import Any

import pytest

from .world import Admin


async def test_a_project_as_keystone_shows_it(admin: Admin) -> None:
    body = {"project": {"name": "demo", "tags": ["b", "a", "b"], "cost_centre": 7}}
    project = (await admin.call("POST", "/projects", body, expect=201))["project"]

    assert project == {
        "id": project["id"],
        "name": "demo",
        "domain_id": "default",
        "parent_id": "default",
        "is_domain": False,
        "enabled": True,
        "description": "",
        "tags": ["a", "b"],
        "options": {},
        "cost_centre": 7,
        "links": {"self": f"http://cloud:8774/identity/v3/projects/{project['id']}"},
    }
    assert (await admin.call("GET", f"/projects/{project['id']}"))["project"] == project


async def test_the_tree(admin: Admin) -> None:
    top = await admin.project("top")
    middle = await admin.project("middle", parent_id=top)
    leaf = await admin.project("leaf", parent_id=middle)

    shown = (await admin.call("GET", f"/projects/{leaf}?parents_as_list"))["project"]
    assert [one["project"]["id"] for one in shown["parents"]] == [middle, top]
    shown = (await admin.call("GET", f"/projects/{leaf}?parents_as_ids"))["project"]
    assert shown["parents"] == {middle: {top: {"default": None}}}
    shown = (await admin.call("GET", f"/projects/{top}?subtree_as_list"))["project"]
    assert [one["project"]["id"] for one in shown["subtree"]] == [middle, leaf]
    shown = (await admin.call("GET", f"/projects/{top}?subtree_as_ids"))["project"]
    assert shown["subtree"] == {middle: {leaf: None}}
    found = await admin.call("GET", f"/projects?parent_id={top}")
    assert [one["id"] for one in found["projects"]] == [middle]

    await admin.call("DELETE", f"/projects/{middle}", expect=403)
    await admin.call("PATCH", f"/projects/{top}", {"project": {"enabled": False}}, expect=403)
    await admin.call("PATCH", f"/projects/{leaf}", {"project": {"parent_id": top}}, expect=403)
    for project in (leaf, middle, top):
        await admin.call("DELETE", f"/projects/{project}", expect=204)


async def test_who_is_no_admin_sees_of_a_tree_in_full_where_a_role_of_theirs_is(admin: Admin) -> None:
    top = await admin.project("top")
    middle, secret = await admin.project("middle", parent_id=top), await admin.project("secret", parent_id=top)
    leaf = await admin.project("leaf", parent_id=middle)
    person = await admin.user("eve")
    for project in (top, leaf):
        await admin.grant("member", person.id, project)

    async def listed(project: str, what: str) -> list[str]:
        token = await person.token(project)
        shown = (await admin.world.call("GET", f"/projects/{project}?{what}", token=token)).json()["project"]
        return [one["project"]["id"] for one in shown[what.partition("_")[0]]]

    assert await listed(top, "subtree_as_list") == [leaf]
    assert await listed(leaf, "parents_as_list") == [top]
    shown = (await admin.call("GET", f"/projects/{top}?subtree_as_list"))["project"]
    assert {one["project"]["id"] for one in shown["subtree"]} == {middle, secret, leaf}


async def test_the_tree_has_a_greatest_depth(admin: Admin) -> None:
    parent = "default"
    for level in range(5):
        parent = await admin.project(f"level {level}", parent_id=parent)
    body = {"project": {"name": "too deep", "parent_id": parent}}
    await admin.call("POST", "/projects", body, expect=403)


async def test_nothing_is_enabled_below_what_is_disabled(admin: Admin) -> None:
    top = await admin.project("top")
    leaf = await admin.project("leaf", parent_id=top, enabled=False)
    await admin.call("PATCH", f"/projects/{top}", {"project": {"enabled": False}})

    await admin.call("PATCH", f"/projects/{leaf}", {"project": {"enabled": True}}, expect=403)
    await admin.call("POST", "/projects", {"project": {"name": "new", "parent_id": top}}, expect=403)


async def test_tags(admin: Admin) -> None:
    red = await admin.project("red", tags=["colour", "red"])
    blue = await admin.project("blue", tags=["colour", "blue"])
    plain = await admin.project("plain")

    async def found(query: str) -> set[str]:
        projects = (await admin.call("GET", f"/projects?{query}"))["projects"]
        return {one["id"] for one in projects} & {red, blue, plain}

    assert await found("tags=colour,red") == {red}
    assert await found("tags-any=red,blue") == {red, blue}
    assert await found("not-tags=colour,red") == {blue, plain}
    assert await found("not-tags-any=red,blue") == {plain}

    path = f"/projects/{plain}/tags"
    await admin.call("PUT", f"{path}/x", expect=201)
    await admin.call("GET", f"{path}/x", expect=204)
    await admin.call("GET", f"{path}/y", expect=404)
    assert (await admin.call("PUT", path, {"tags": ["y", "z"]}))["tags"] == ["y", "z"]
    await admin.call("DELETE", f"{path}/y", expect=204)
    await admin.call("DELETE", f"{path}/y", expect=404)
    assert (await admin.call("GET", path))["tags"] == ["z"]
    await admin.call("DELETE", path, expect=204)
    assert await found("tags=z") == set()


@pytest.mark.parametrize("tags", [["a,b"], ["a/b"], [""], ["x" * 256], [f"t{n}" for n in range(81)], [1], "a"])
async def test_bad_tags(admin: Admin, tags: Any) -> None:
    await admin.call("POST", "/projects", {"project": {"name": "demo", "tags": tags}}, expect=400)


async def test_immutable_resources_stay(admin: Admin) -> None:
    project = await admin.project("stone", options={"immutable": True})

    await admin.call("DELETE", f"/projects/{project}", expect=403)
    await admin.call("PATCH", f"/projects/{project}", {"project": {"name": "x"}}, expect=403)
    await admin.call("PUT", f"/projects/{project}/tags/x", expect=403)
    body = {"project": {"options": {"immutable": None}, "name": "x"}}
    await admin.call("PATCH", f"/projects/{project}", body, expect=200)
    await admin.call("DELETE", f"/projects/{project}", expect=204)
    admin_role = admin.world.ids.role_ids["admin"]
    await admin.call("DELETE", f"/roles/{admin_role}", expect=403)


async def test_a_domain_and_all_that_is_in_it(admin: Admin) -> None:
    domain = await admin.domain("guests")
    project = await admin.project("theirs", domain_id=domain)
    child = await admin.project("child", parent_id=project)
    alice = await admin.user("alice", domain_id=domain)
    await admin.grant("member", alice.id, project)
    assert (await admin.call("GET", f"/projects/{child}"))["project"]["domain_id"] == domain
    seen = (await admin.call("GET", "/projects?is_domain=true"))["projects"]
    assert domain in {one["id"] for one in seen}

    await admin.call("DELETE", f"/domains/{domain}", expect=403)  # still enabled
    await admin.call("PATCH", f"/domains/{domain}", {"domain": {"enabled": False}})
    await admin.call("DELETE", f"/domains/{domain}", expect=204)

    for path in (f"/domains/{domain}", f"/projects/{project}", f"/projects/{child}", f"/users/{alice.id}"):
        await admin.call("GET", path, expect=404)


async def test_domains_and_projects_are_not_mixed_up(admin: Admin) -> None:
    domain, project = await admin.domain("guests"), await admin.project("demo")

    await admin.call("GET", f"/domains/{project}", expect=404)
    await admin.call("GET", f"/projects/{domain}", expect=200)
    await admin.call("DELETE", f"/projects/{domain}", expect=403)  # it is enabled
    await admin.call("PATCH", f"/projects/{domain}", {"project": {"is_domain": False}}, expect=400)
    await admin.call("POST", "/domains", {"domain": {"name": "guests"}}, expect=409)
    await admin.call("POST", "/projects", {"project": {"name": "demo"}}, expect=409)
    await admin.project("guests")
    await admin.call("PATCH", "/domains/default", {"domain": {"enabled": False}})


async def test_a_deleted_project_is_nobodys_default(admin: Admin) -> None:
    project = await admin.project("demo")
    alice = await admin.user("alice", default_project_id=project)
    await admin.call("DELETE", f"/projects/{project}")

    assert "default_project_id" not in (await admin.call("GET", f"/users/{alice.id}"))["user"]
    assert (await admin.world.log_in(alice.id, alice.password)).status_code == 201


async def test_a_project_that_is_a_domain(admin: Admin) -> None:
    made = (await admin.call("POST", "/projects", {"project": {"name": "own", "is_domain": True}}, 201))["project"]
    assert (made["is_domain"], made["domain_id"], made["parent_id"]) == (True, None, None)
    assert (await admin.call("GET", f"/domains/{made['id']}"))["domain"]["name"] == "own"
    below = {"project": {"name": "x", "is_domain": True, "parent_id": made["id"]}}
    await admin.call("POST", "/projects", below, 400)

    path = f"/projects/{made['id']}"
    await admin.call("PATCH", path, {"project": {"is_domain": False}}, 400)
    await admin.call("PATCH", path, {"project": {"domain_id": "default"}}, 400)
    await admin.call("DELETE", path, None, 403)
    changed = (await admin.call("PATCH", path, {"project": {"enabled": False, "name": "mine"}}))["project"]
    assert (changed["enabled"], changed["name"], changed["is_domain"]) == (False, "mine", True)
    await admin.call("DELETE", path)
    await admin.call("GET", f"/domains/{made['id']}", None, 404)
    await admin.call("DELETE", "/projects/default", None, 403)


@pytest.mark.parametrize("kind", ["project", "domain"])
async def test_a_name_has_at_most_64_characters(admin: Admin, kind: str) -> None:
    await admin.call("POST", f"/{kind}s", {kind: {"name": "a" * 65}}, 400)
    made = (await admin.call("POST", f"/{kind}s", {kind: {"name": "a" * 64}}, 201))[kind]
    await admin.call("PATCH", f"/{kind}s/{made['id']}", {kind: {"name": "b" * 65}}, 400)

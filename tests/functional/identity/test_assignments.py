"""Roles and their assignments: granted, implied, inherited, through groups."""

from typing import Any

import pytest

from .world import Admin, World


async def listed(admin: Admin, query: str) -> list[dict[str, Any]]:
    return (await admin.call("GET", f"/role_assignments?{query}"))["role_assignments"]


async def role_names(admin: Admin, query: str) -> list[str]:
    return sorted(one["role"]["name"] for one in await listed(admin, f"{query}&include_names"))


async def test_granting_checking_and_taking_away(admin: Admin) -> None:
    alice, project = await admin.user("alice"), await admin.project("demo")
    path = admin.grant_path("member", alice.id, project)

    await admin.call("HEAD", path, expect=404)
    await admin.call("PUT", path, expect=204)
    await admin.call("PUT", path, expect=204)
    await admin.call("HEAD", path, expect=204)
    await admin.call("GET", path, expect=204)
    roles = (await admin.call("GET", f"/projects/{project}/users/{alice.id}/roles"))["roles"]
    assert [role["name"] for role in roles] == ["member"]
    await admin.call("DELETE", path, expect=204)
    await admin.call("DELETE", path, expect=404)


async def test_what_does_not_exist_gets_no_role(admin: Admin) -> None:
    alice, project, nothing = await admin.user("alice"), await admin.project("demo"), "0" * 32
    for path in (
        admin.grant_path(nothing, alice.id, project),
        admin.grant_path("member", nothing, project),
        admin.grant_path("member", alice.id, nothing),
        f"/domains/{project}/users/{alice.id}/roles/{admin.world.ids.role_ids['member']}",
        f"/projects/{project}/groups/{alice.id}/roles/{admin.world.ids.role_ids['member']}",
    ):
        for method in ("PUT", "HEAD", "DELETE"):
            await admin.call(method, path, expect=404)


@pytest.mark.parametrize("target", ["projects", "domains", "system"])
@pytest.mark.parametrize("actor", ["users", "groups"])
async def test_every_pair_of_actor_and_target(admin: Admin, target: str, actor: str) -> None:
    who = (await admin.user("alice")).id if actor == "users" else await admin.group("crew")
    where = {"projects": f"projects/{await admin.project('demo')}", "domains": "domains/default", "system": "system"}
    path = f"/{where[target]}/{actor}/{who}/roles"
    reader = admin.world.ids.role_ids["reader"]

    await admin.call("PUT", f"{path}/{reader}", expect=204)
    assert [role["id"] for role in (await admin.call("GET", path))["roles"]] == [reader]
    (found,) = await listed(admin, f"{actor.removesuffix('s')}.id={who}")
    assert found["links"]["assignment"] == f"http://cloud:8774/identity/v3{path}/{reader}"
    assert found["role"] == {"id": reader}
    expected = {
        "projects": {"project": {"id": where[target].partition("/")[2]}},
        "domains": {"domain": {"id": "default"}},
        "system": {"system": {"all": True}},
    }
    assert found["scope"] == expected[target]
    await admin.call("DELETE", f"{path}/{reader}", expect=204)
    assert await listed(admin, f"{actor.removesuffix('s')}.id={who}") == []


async def test_filters_and_names(admin: Admin) -> None:
    alice, bob = await admin.user("alice"), await admin.user("bob")
    one, two = await admin.project("one"), await admin.project("two")
    await admin.grant("member", alice.id, one)
    await admin.grant("reader", alice.id, two)
    await admin.grant("member", bob.id, two)

    assert len(await listed(admin, f"user.id={alice.id}")) == 2
    assert await role_names(admin, f"user.id={alice.id}&scope.project.id={two}") == ["reader"]
    assert await role_names(admin, f"scope.project.id={two}") == ["member", "reader"]
    assert len(await listed(admin, f"role.id={admin.world.ids.role_ids['member']}")) == 2
    assert await role_names(admin, "scope.system=all") == ["admin"]
    assert await listed(admin, "scope.domain.id=default") == []
    (named,) = await listed(admin, f"user.id={bob.id}&include_names=true")
    default = {"id": "default", "name": "Default"}
    assert named["user"] == {"id": bob.id, "name": "bob", "domain": default}
    assert named["scope"] == {"project": {"id": two, "name": "two", "domain": default}}
    for bad in (
        "scope.project.id=a&scope.domain.id=b",
        "user.id=a&group.id=b",
        "group.id=a&effective",
        "include_subtree",
    ):
        await admin.call("GET", f"/role_assignments?{bad}", expect=400)


async def test_effective_assignments_of_a_group_member(admin: Admin) -> None:
    alice, crew, project = await admin.user("alice"), await admin.group("crew"), await admin.project("demo")
    member = admin.world.ids.role_ids["member"]
    await admin.call("PUT", f"/groups/{crew}/users/{alice.id}")
    await admin.call("PUT", f"/projects/{project}/groups/{crew}/roles/{member}")

    assert await listed(admin, f"user.id={alice.id}") == []
    found = await listed(admin, f"user.id={alice.id}&effective")
    by_role = {one["role"]["id"]: one for one in found}
    reader = admin.world.ids.role_ids["reader"]
    assert set(by_role) == {member, reader}
    base = "http://cloud:8774/identity/v3"
    assert by_role[member]["links"] == {
        "assignment": f"{base}/projects/{project}/groups/{crew}/roles/{member}",
        "membership": f"{base}/groups/{crew}/users/{alice.id}",
    }
    assert by_role[reader]["links"]["prior_role"] == f"{base}/prior_roles/{member}/implies/{reader}"
    token = (await admin.world.log_in(alice.id, alice.password, {"project": {"id": project}})).json()["token"]
    assert [role["name"] for role in token["roles"]] == ["member", "reader"]


async def test_inherited_roles_hold_below_only(admin: Admin) -> None:
    alice = await admin.user("alice")
    top = await admin.project("top")
    leaf = await admin.project("leaf", parent_id=top)
    aside = await admin.project("aside")
    role = await admin.role("observer")
    path = f"/OS-INHERIT/projects/{top}/users/{alice.id}/roles"
    await admin.call("PUT", f"{path}/{role}/inherited_to_projects", expect=204)
    await admin.call("HEAD", f"{path}/{role}/inherited_to_projects", expect=204)
    inherited = await admin.call("GET", f"{path}/inherited_to_projects")
    assert [one["id"] for one in inherited["roles"]] == [role]

    async def may_enter(project: str) -> bool:
        return (await admin.world.log_in(alice.id, alice.password, {"project": {"id": project}})).status_code == 201

    assert [await may_enter(project) for project in (top, leaf, aside)] == [False, True, False]
    (granted,) = await listed(admin, f"user.id={alice.id}")
    assert granted["scope"] == {"project": {"id": top}, "OS-INHERIT:inherited_to": "projects"}
    (effective,) = await listed(admin, f"user.id={alice.id}&effective")
    assert effective["scope"]["project"] == {"id": leaf}
    assert await role_names(admin, f"scope.project.id={leaf}&effective") == ["observer"]
    assert await role_names(admin, f"scope.project.id={top}&effective") == []
    assert await role_names(admin, f"scope.project.id={top}&effective&include_subtree") == ["observer"]
    token = await alice.token(leaf)
    reach = (await admin.world.call("GET", "/auth/projects", token=token)).json()["projects"]
    assert [one["id"] for one in reach] == [leaf]

    await admin.call("DELETE", f"{path}/{role}/inherited_to_projects", expect=204)
    assert not await admin.world.is_valid(token)
    assert not await may_enter(leaf)


async def test_a_domains_inherited_role_holds_in_all_its_projects(admin: Admin) -> None:
    alice, project = await admin.user("alice"), await admin.project("demo")
    member = admin.world.ids.role_ids["member"]
    path = f"/OS-INHERIT/domains/default/users/{alice.id}/roles/{member}/inherited_to_projects"
    await admin.call("PUT", path, expect=204)

    assert await alice.token(project)
    scope = {"domain": {"id": "default"}}
    assert (await admin.world.log_in(alice.id, alice.password, scope)).status_code == 401


async def test_implied_roles(world: World, admin: Admin) -> None:
    alice, project = await admin.user("alice"), await admin.project("demo")
    boss, clerk = await admin.role("boss"), await admin.role("clerk")
    path = f"/roles/{boss}/implies/{clerk}"

    made = await admin.call("PUT", path, expect=201)
    assert made["role_inference"]["prior_role"]["name"] == "boss"
    await admin.call("GET", path, expect=200)
    await admin.call("HEAD", path, expect=204)
    await admin.call("PUT", f"/roles/{clerk}/implies/{boss}", expect=400)
    await admin.call("PUT", f"/roles/{clerk}/implies/{clerk}", expect=400)
    shown = (await admin.call("GET", f"/roles/{boss}/implies"))["role_inference"]
    assert [one["name"] for one in shown["implies"]] == ["clerk"]
    rules = (await admin.call("GET", "/role_inferences"))["role_inferences"]
    assert {"admin", "manager", "member", "boss"} == {one["prior_role"]["name"] for one in rules}

    await admin.grant(boss, alice.id, project)
    token = await alice.token(project)
    assert world.authority.context(token).roles == {"boss", "clerk"}
    await admin.call("DELETE", path, expect=204)
    await admin.call("GET", path, expect=404)
    assert not await world.is_valid(token)
    assert world.authority.context(await alice.token(project)).roles == {"boss"}


async def test_a_domains_own_role_is_never_in_a_token(world: World, admin: Admin) -> None:
    domain = await admin.domain("guests")
    alice, project = await admin.user("alice"), await admin.project("theirs", domain_id=domain)
    outside = await admin.project("outside")
    local = await admin.role("admin", domain_id=domain)  # the name alone must not make anybody an admin
    await admin.call("PUT", f"/roles/{local}/implies/{world.ids.role_ids['reader']}", expect=201)
    await admin.call("PUT", admin.grant_path(local, alice.id, outside), expect=403)
    await admin.grant(local, alice.id, project)

    context = world.authority.context(await alice.token(project))
    assert context.roles == {"reader"}
    assert not context.is_admin
    assert await role_names(admin, f"user.id={alice.id}&effective") == ["reader"]
    assert local not in {role["id"] for role in (await admin.call("GET", "/roles"))["roles"]}
    found = (await admin.call("GET", f"/roles?domain_id={domain}"))["roles"]
    assert [role["id"] for role in found] == [local]


async def test_a_domains_own_role_stands_on_other_domains_for_what_it_implies(world: World, admin: Admin) -> None:
    near, far = await admin.domain("near"), await admin.domain("far")
    alice, local = await admin.user("alice"), await admin.role("local", domain_id=near)
    await admin.call("PUT", f"/roles/{local}/implies/{world.ids.role_ids['reader']}", expect=201)
    path = f"/users/{alice.id}/roles/{local}"
    await admin.call("PUT", f"/domains/{far}{path}", expect=204)
    await admin.call("PUT", f"/system{path}", expect=403)
    assert await role_names(admin, f"user.id={alice.id}&scope.domain.id={far}") == ["local"]
    assert await role_names(admin, f"user.id={alice.id}&effective") == ["reader"]
    await admin.call("DELETE", f"/domains/{far}{path}", expect=204)


async def test_which_roles_may_imply_which(admin: Admin) -> None:
    near, far = await admin.domain("near"), await admin.domain("far")
    here, there = await admin.role("here", domain_id=near), await admin.role("there", domain_id=far)
    everywhere = await admin.role("everywhere")
    await admin.call("PUT", f"/roles/{here}/implies/{there}", expect=201)
    await admin.call("PUT", f"/roles/{here}/implies/{everywhere}", expect=201)
    await admin.call("PUT", f"/roles/{everywhere}/implies/{here}", expect=403)

"""What Tempest does around each test class: a project and users made, used in parallel, and all of it deleted."""

import asyncio

from .world import Admin, World


async def test_many_sets_of_credentials_at_once(world: World, admin: Admin) -> None:
    roles = {one["name"]: one["id"] for one in (await admin.call("GET", "/roles"))["roles"]}
    domains = (await admin.call("GET", "/domains?name=Default"))["domains"]
    before = {kind: await admin.call("GET", f"/{kind}") for kind in ("projects", "users")}

    async def one_class(number: int) -> None:
        name = f"tempest-Class{number}"
        project = await admin.project(name, description=f"{name}-desc", domain_id=domains[0]["id"])
        user = await admin.user(name, email=f"{name}@example.org", default_project_id=project)
        assigned = await admin.call("GET", f"/projects/{project}/users/{user.id}/roles")
        assert assigned["roles"] == []
        await admin.grant(roles["member"], user.id, project)
        await admin.grant(roles["reader"], user.id, project)
        token = await user.token(project)
        context = world.authority.context(token)
        assert context.project_id == project
        assert context.project_name == name
        assert context.roles == {"member", "reader"}
        assert await world.is_valid(token)
        await admin.call("DELETE", f"/users/{user.id}", expect=204)
        assert not await world.is_valid(token)
        await admin.call("DELETE", f"/projects/{project}", expect=204)

    await asyncio.gather(*(one_class(number) for number in range(20)))

    assert before == {kind: await admin.call("GET", f"/{kind}") for kind in ("projects", "users")}


async def test_one_name_taken_once_under_a_rush(admin: Admin) -> None:
    body = {"project": {"name": "demo"}}
    asked = [admin.world.call("POST", "/projects", body, admin.token) for _ in range(20)]
    statuses = [response.status_code for response in await asyncio.gather(*asked)]

    assert sorted(statuses) == [201] + [409] * 19

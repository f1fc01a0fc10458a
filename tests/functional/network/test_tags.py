"""Tags: of every kind of resource that has them."""

import pytest


@pytest.mark.parametrize("kind", ["networks", "subnets", "ports", "security-groups"])
async def test_tags_of_each_kind(member, other, kind):
    network = await member.network()
    subnet = await member.subnet(network)
    port = await member.port(network)
    ids = {
        "networks": network["id"],
        "subnets": subnet["id"],
        "ports": port["id"],
        "security-groups": port["security_groups"][0],
    }
    resource = f"/v2.0/{kind}/{ids[kind]}"
    path = f"{resource}/tags"
    assert await member.get(path) == {"tags": []}
    assert await member.put(path, {"tags": ["red", "blue", "a b/c"]}) == {"tags": ["a b/c", "blue", "red"]}
    await member.put(f"{path}/green", status=201)
    await member.get(f"{path}/green", 204)
    await member.get(f"{path}/black", 404)
    await member.delete(f"{path}/red")
    await member.delete(f"{path}/red", 404)
    shown = (await member.get(resource))[kind.removesuffix("s").replace("-", "_")]
    assert shown["tags"] == ["a b/c", "blue", "green"]
    key = kind.replace("-", "_")
    for query, count in (("tags=blue,green", 1), ("tags=blue,x", 0), ("tags-any=x,blue", 1), ("not-tags=blue", 0)):
        found = (await member.get(f"/v2.0/{kind}?id={ids[kind]}&{query}"))[key]
        assert len(found) == count, query
    assert len((await member.get(f"/v2.0/{kind}?id={ids[kind]}&not-tags-any=x"))[key]) == 1
    for wrong in ({"tags": "x"}, {"tags": ["x" * 256]}, {"tags": [1]}, {"nonsense": []}, {"tags": ["a", "a"]}, {}):
        await member.put(path, wrong, 400)
    await other.get(path, 404)
    await other.put(f"{path}/x", status=404)
    await member.delete(path)
    assert await member.get(path) == {"tags": []}


async def test_tags_of_a_shared_network_are_its_owners(admin, member):
    network = await admin.network(shared=True)
    await member.get(f"/v2.0/networks/{network['id']}/tags")
    await member.put(f"/v2.0/networks/{network['id']}/tags/x", status=403)


async def test_tags_go_with_their_resource(member, cloud):
    network = await member.network()
    await member.put(f"/v2.0/networks/{network['id']}/tags/x", status=201)
    await member.delete(f"/v2.0/networks/{network['id']}")
    await member.put(f"/v2.0/networks/{network['id']}/tags/x", status=404)
    await member.get("/v2.0/routers/x/tags", 404)

"""Role assignments worked out: groups, trees, implied roles."""

from muster.domain.assignments import Actor, ActorKind, Grant, Place, Target, TargetKind, ancestors, expand
from muster.domain.roles import Implication

ALICE, CREW = Actor(ActorKind.USER, "alice"), Actor(ActorKind.GROUP, "crew")
TREE = {
    place.id: place
    for place in (Place("top", "d", "d"), Place("mid", "top", "d"), Place("leaf", "mid", "d"), Place("side", "d", "d"))
}


def on(project: str) -> Target:
    return Target(TargetKind.PROJECT, project)


def test_ancestors_end_at_the_domain() -> None:
    assert ancestors(TREE["leaf"], TREE) == ["mid", "top", "d"]
    assert ancestors(TREE["top"], TREE) == ["d"]
    assert ancestors(Place("orphan", "gone", "d"), TREE) == ["d"]


def test_a_circle_in_the_tree_ends() -> None:
    ring = {"a": Place("a", "b", "d"), "b": Place("b", "a", "d")}
    assert ancestors(ring["a"], ring) == ["b", "a", "d"]


def test_a_group_becomes_its_members() -> None:
    grant = Grant(actor=CREW, target=on("top"), role_id="r")
    found = expand([grant], {"crew": ["alice", "bob"]}, {}, [])
    assert [(one.actor.id, one.via_group_id) for one in found] == [("alice", "crew"), ("bob", "crew")]
    assert expand([grant], {"crew": []}, {}, []) == []


def test_inherited_holds_below_and_not_at() -> None:
    grant = Grant(actor=ALICE, target=on("top"), role_id="r", inherited=True)
    found = expand([grant], {}, TREE, [])
    assert {one.target.id for one in found} == {"mid", "leaf"}
    assert {one.inherited_from for one in found} == {on("top")}
    whole = Grant(actor=ALICE, target=Target(TargetKind.DOMAIN, "d"), role_id="r", inherited=True)
    assert {one.target.id for one in expand([whole], {}, TREE, [])} == set(TREE)


def test_implied_roles_of_implied_roles() -> None:
    rules = [Implication("a", "b"), Implication("b", "c"), Implication("c", "a")]
    found = expand([Grant(actor=ALICE, target=on("top"), role_id="a")], {}, {}, rules)
    assert {(one.role_id, one.prior_role_id) for one in found} == {("a", None), ("b", "a"), ("c", "b")}


def test_each_right_is_listed_once() -> None:
    twice = [
        Grant(actor=ALICE, target=on("top"), role_id="r"),
        Grant(actor=CREW, target=on("top"), role_id="r"),
    ]
    assert expand(twice, {"crew": ["alice"]}, {}, []) == twice[:1]

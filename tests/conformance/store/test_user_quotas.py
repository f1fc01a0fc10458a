"""Limits of single users: their figures are what there is, whoever changes what meanwhile, and are never passed."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from types import NoneType
from typing import Any

import pytest
from sqlalchemy import event, insert, text
from sqlalchemy.engine import Engine

from muster.base.errors import Forbidden, Invalid, NotFound, Stale
from muster.domain.quotas import Ask, Refusal
from muster.domain.server_groups import ServerGroup
from muster.domain.servers import Asked, Server, Verb
from muster.domain.users import Login, User
from muster.services.quotas import Quotas
from muster.services.server_groups import ServerGroups
from muster.services.tally import Tally
from muster.services.user_quotas import UserQuotas
from muster.store import user_quotas as store
from muster.store import users as user_store
from muster.store.engine import Database
from muster.store.projects import projects

from .compute_cloud import FLAVOR, add_hosts, add_server
from .workers import ADMIN, Worker, a_network, a_server, workers

P = "p"
LIMITS = {"instances": 12}
HANG_S = 300.0
A_GROUP = {"project_id": P, "name": "g", "policy": "affinity", "created_at": 1.0}


@pytest.fixture
async def users(database: Database) -> UserQuotas:
    """Of a project in which nobody has a limit of his own, not `ann` and not `ben`."""
    async with database.write() as connection:
        await connection.execute(insert(projects).values(id=P, name=P, domain_id=None, parent_id=None))
        people = [Login(User(id=name, name=name, domain_id=P), None) for name in ("ann", "ben")]
        await user_store.insert(connection, people)
    return UserQuotas(database, Quotas(LIMITS))


@asynccontextmanager
async def cloud(database: Database, folder: Path, count: int = 2) -> AsyncIterator[tuple[list[Worker], str]]:
    """Workers, hosts with room for all, and a network."""
    async with database.write() as connection:
        await add_hosts(connection, *(f"h{number}" for number in range(5)), now=time.time() + 3_600)
    async with workers(database, folder, count, limits=LIMITS) as found:
        yield found, await a_network(found[0])


async def figures(database: Database) -> dict[tuple[str, str], int]:
    """What users with limits have in use, by user and resource."""
    async with database.read() as connection:
        return {key[1:]: figure.in_use for key, figure in (await store.read(connection, P)).items()}


async def there(database: Database) -> dict[tuple[str, str], int]:
    async with database.read() as connection:
        return await store.count(connection, P)


async def check_figures(database: Database) -> None:
    counted, found = await figures(database), await there(database)
    assert counted == {key: found.get(key, 0) for key in counted}


async def delete(worker: Worker, found: list[Server]) -> None:
    for server in found:
        await worker.orders.ask(ADMIN, server.id, Asked(verb=Verb.DELETE), "req")
    await worker.orders.finish_all(found)


async def test_what_there_was_is_counted_when_a_limit_is_set_and_followed_from_then_on(database, users, tmp_path):
    async with cloud(database, tmp_path, count=1) as ([worker], network_id):
        made = await worker.creation.create([a_server(P, network_id, user_id="ann") for _ in range(3)])
        await worker.creation.create([a_server(P, network_id, user_id="ben")])
        assert await figures(database) == {}
        await users.update(P, "ann", {"instances": 5, "ram": 9_000, "key_pairs": 1}, force=False)
        assert await figures(database) == {
            ("ann", "instances"): 3,
            ("ann", "ram"): 3 * FLAVOR.ram_mib,
            ("ann", "key_pairs"): 0,
        }
        # At most four, at least one: two are left of the user's five.
        asked = [a_server(P, network_id, user_id="ann") for _ in range(4)]
        assert len(await worker.creation.create(asked, least=1)) == 2
        with pytest.raises(Forbidden, match="Requested 1, but already used 5 of 5 instances"):
            await worker.creation.create([a_server(P, network_id, user_id="ann")])
        # Nobody else is held up, but by the project's limit of twelve.
        assert (
            len(await worker.creation.create([a_server(P, network_id, user_id="ben") for _ in range(9)], least=1)) == 6
        )
        await check_figures(database)
        await delete(worker, made)
        await check_figures(database)
        assert (await figures(database))["ann", "instances"] == 2
        await worker.creation.create([a_server(P, network_id, user_id="ann") for _ in range(3)])
        await check_figures(database)


async def test_two_workers_never_pass_a_users_limit_together(database, users, tmp_path):
    async with cloud(database, tmp_path) as (both, network_id):
        await users.update(P, "ann", {"instances": 7}, force=False)

        async def create(index: int) -> list[Server]:
            await asyncio.sleep(index * 0.003)  # many batches, not one
            drafts = [a_server(P, network_id, user_id="ann") for _ in range(2)]
            return await both[index % 2].creation.create(drafts, least=1)

        async with asyncio.timeout(HANG_S):
            outcomes = await asyncio.gather(*(create(index) for index in range(8)), return_exceptions=True)
        made = [server for one in outcomes if isinstance(one, list) for server in one]
        refused = [one for one in outcomes if not isinstance(one, list)]
        assert len(made) == 7
        assert all(isinstance(one, Forbidden) for one in refused), refused
        await check_figures(database)
        for server in made:
            await both[0].orders.ask(ADMIN, server.id, Asked(verb=Verb.DELETE), "req")
        await asyncio.gather(*(worker.orders.finish_all(made) for worker in both))
        assert await figures(database) == {("ann", "instances"): 0}


@pytest.mark.parametrize("seed", [1, 2])
async def test_figures_are_what_there_is_whatever_two_workers_do_at_once(database, users, tmp_path, seed):
    rng = Random(seed)
    made: list[Server] = []
    async with cloud(database, tmp_path) as (both, network_id):

        async def create(worker: Worker, user_id: str) -> None:
            drafts = [a_server(P, network_id, user_id=user_id) for _ in range(rng.randrange(1, 4))]
            made.extend(await worker.creation.create(drafts, least=1))

        async def end(worker: Worker, _user_id: str) -> None:
            if made:
                server = rng.choice(made)
                await worker.orders.ask(ADMIN, server.id, Asked(verb=Verb.DELETE), "req")
                await worker.orders.finish_all([server])

        async def limit(worker: Worker, user_id: str) -> None:
            limits = {"instances": rng.randrange(1, 7), "ram": rng.choice((-1, 4_096))}
            await UserQuotas(worker.database, Quotas(LIMITS)).update(P, user_id, limits, force=True)

        async def unlimit(worker: Worker, user_id: str) -> None:
            await UserQuotas(worker.database, Quotas(LIMITS)).reset(P, user_id)

        for _ in range(3):
            acts = rng.choices((create, end, limit, unlimit), (5, 4, 2, 1), k=24)
            done = (act(rng.choice(both), rng.choice(("ann", "ben"))) for act in acts)
            async with asyncio.timeout(HANG_S):
                outcomes = await asyncio.gather(*done, return_exceptions=True)
            odd = [one for one in outcomes if not isinstance(one, Forbidden | NotFound | NoneType)]
            assert not odd, odd
            await check_figures(database)
        assert made


async def test_what_was_decided_before_a_limit_was_set_is_decided_again(database, users):
    if database.is_sqlite:
        return  # has one writer

    async def overtaken() -> None:
        async with database.write() as connection:
            tally = Tally(Quotas(LIMITS), connection)
            assert await tally.admit([Ask(P, {"instances": 2}, "ann")]) == [None]
            await users.update(P, "ann", {"instances": 1}, force=False)
            await tally.settle()

    with pytest.raises(Stale):
        await asyncio.wait_for(overtaken(), HANG_S)
    async with database.write() as connection:
        tally = Tally(Quotas(LIMITS), connection)
        assert await tally.admit([Ask(P, {"instances": 2}, "ann")]) == [Refusal("instances", 2, 0, 1)]


async def test_what_is_being_made_while_a_limit_is_set_is_counted_once(database, users):
    if database.is_sqlite:
        return
    limiting = None
    async with asyncio.timeout(HANG_S):
        async with database.write() as connection:
            await add_server(connection, "s", project_id=P, user_id="ann")
            tally = Tally(Quotas(LIMITS), connection)
            await tally.admit([Ask(P, {"instances": 1}, "ann")])
            await tally.settle()  # the project's figure is held from here
            limiting = asyncio.create_task(users.update(P, "ann", {"instances": 3}, force=False))
            await asyncio.sleep(0.1)
            assert not limiting.done()
        await limiting
        assert await figures(database) == {("ann", "instances"): 1}
        async with database.write() as connection:
            await add_server(connection, "t", project_id=P, user_id="ann")
            await users.update(P, "ben", {"instances": 3}, force=False)  # does not see it yet
            await users.update(P, "ann", {"instances": 4}, force=False)
            tally = Tally(Quotas(LIMITS), connection)
            await tally.admit([Ask(P, {"instances": 1}, "ann")])
            await tally.settle()
    await check_figures(database)
    assert (await figures(database))["ann", "instances"] == 2


@contextmanager
def executed() -> Iterator[list[str]]:
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def test_a_batch_costs_one_statement_more_where_users_have_limits_and_none_elsewhere(database, users, tmp_path):
    async with cloud(database, tmp_path, count=1) as ([worker], network_id):

        async def life() -> tuple[list[str], list[str]]:
            """What making a server, and what its end cost."""
            with executed() as making:
                made = await worker.creation.create([a_server(P, network_id, user_id="ann")])
            await worker.orders.ask(ADMIN, made[0].id, Asked(verb=Verb.DELETE), "req")
            with executed() as ending:
                await worker.orders.finish_all(made)
            return making, ending

        await life()
        before = await life()
        assert not [statement for part in before for statement in part if "user_quotas" in statement]
        await users.update(P, "ann", {"instances": 5}, force=False)
        limited = await life()
        assert [len(part) - len(was) for part, was in zip(limited, before, strict=True)] == [1, 1]
        await users.reset(P, "ann")
        assert [len(part) for part in await life()] == [len(part) for part in before]


async def test_limits_are_bounded_by_the_project_and_by_what_is_in_use(database, users, tmp_path):
    async with database.write() as connection:
        for name in ("s", "t"):
            await add_server(connection, name, project_id=P, user_id="ann")
    await users.update(P, "ben", {"instances": 4}, force=False)
    for limit in (1, 9, -1):  # in use are 2, left of 12 are 8
        with pytest.raises(Invalid):
            await users.update(P, "ann", {"instances": limit}, force=False)
    await users.update(P, "ann", {"instances": 8}, force=False)
    await users.update(P, "ann", {"instances": 1}, force=True)
    await users.reset(P, "ben")
    await users.update(P, "ann", {"instances": 12}, force=False)
    assert await figures(database) == {("ann", "instances"): 2}


async def old_worker(database: Database, server_id: str, user_id: str) -> None:
    """What a process of the version before does for a new server: it counts the project's, by columns that it knows."""
    async with database.write() as connection:
        await add_server(connection, server_id, project_id=P, user_id=user_id)
        await connection.execute(
            text(
                "INSERT INTO usages (project_id, resource, in_use) VALUES ('p', 'instances', 1) "
                "ON CONFLICT (project_id, resource) DO UPDATE SET in_use = usages.in_use + excluded.in_use "
                "RETURNING project_id, resource, in_use"
            )
        )


async def test_what_a_worker_of_the_version_before_did_not_count_is_counted_anew(database, users):
    await old_worker(database, "first", "ann")
    await users.update(P, "ann", {"instances": 5, "cores": 5}, force=False)
    assert await figures(database) == {("ann", "instances"): 1, ("ann", "cores"): 1}
    await old_worker(database, "second", "ann")
    await old_worker(database, "third", "ben")
    assert (await figures(database))["ann", "instances"] == 1
    await users.recount()
    assert await figures(database) == {("ann", "instances"): 2, ("ann", "cores"): 2}
    await users.recount()
    await check_figures(database)


async def test_groups_are_counted_by_user(database, users):
    groups = ServerGroups(database, Quotas({}), lambda: 1.0)
    for number in range(2):
        await groups.create(ServerGroup(id=f"g{number}", user_id="ann", **A_GROUP))
    await users.update(P, "ann", {"server_groups": 2}, force=False)
    with pytest.raises(Forbidden, match="too many server groups"):
        await groups.create(ServerGroup(id="g2", user_id="ann", **A_GROUP))
    assert await figures(database) == {("ann", "server_groups"): 2}
    await groups.create(ServerGroup(id="g3", user_id="ben", **A_GROUP))
    await groups.delete(ADMIN, "g0")
    await groups.create(ServerGroup(id="g4", user_id="ann", **A_GROUP))
    await check_figures(database)


async def test_a_users_part_of_a_group_is_limited(database, users, tmp_path):
    async with cloud(database, tmp_path, count=1) as ([worker], network_id):
        groups = ServerGroups(database, Quotas({}), lambda: 1.0)
        await groups.create(ServerGroup(id="g", user_id="ann", **{**A_GROUP, "policy": "soft-affinity"}))
        await users.update(P, "ann", {"server_group_members": 2}, force=False)

        async def join(user_id: str, count: int) -> None:
            drafts = [a_server(P, network_id, user_id=user_id, server_group_id="g") for _ in range(count)]
            await worker.creation.create(drafts)

        await join("ben", 3)
        await join("ann", 2)
        with pytest.raises(Forbidden, match="too many servers in group"):
            await join("ann", 1)
        await join("ben", 1)


async def test_only_rows_that_are_there_are_added_to(database, users):
    await users.update(P, "ann", {"instances": 5, "cores": 5}, force=False)
    deltas: Mapping[store.UserKey, int] = {
        (P, "ann", "instances"): 2,
        (P, "ann", "ram"): 512,
        (P, "ben", "instances"): 1,
    }
    async with database.write() as connection:
        assert await store.add(connection, {}) == {}
        assert await store.add(connection, deltas) == {(P, "ann", "instances"): store.UserFigure(5, 2)}
        assert await store.add(connection, {(P, "ann", "instances"): -1}) == {
            (P, "ann", "instances"): store.UserFigure(5, 1)
        }
    assert await figures(database) == {("ann", "instances"): 1, ("ann", "cores"): 0}

"""The first rows of a cloud, made once however often and by however many processes; and a life lived on them."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from muster.api.identity.application import assemble
from muster.base.errors import Unauthenticated
from muster.domain.attribute_filters import Page
from muster.domain.authentication import AuthenticationAsk, Named, PasswordProof, ScopeAsk, ScopeKind, TokenProof
from muster.domain.catalog import own_entries
from muster.domain.patches import ProjectPatch, UserPatch
from muster.services.cluster_secret import ClusterSecret
from muster.services.identity_bootstrap import BootstrapIds, bootstrap
from muster.services.passwords import Passwords, PasswordSettings
from muster.services.revocations import Revocations
from muster.services.token_authority import TokenAuthority
from muster.services.token_keys import TokenKeys
from muster.store import catalog as catalog_store
from muster.store.engine import Database


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    one = Passwords(PasswordSettings(time_cost=1, memory_kib=8))
    yield one
    one.close()


async def test_again_and_at_once_it_makes_one_cloud(database: Database, passwords: Passwords) -> None:
    async def run() -> BootstrapIds:
        return await bootstrap(database, admin_password="pw", passwords=passwords)

    ids = await asyncio.gather(run(), run(), run())
    assert ids[0] == ids[1] == ids[2] == await run()
    async with database.read() as connection:
        services, endpoints = await catalog_store.read_all(connection)
    assert (len(services), len(endpoints)) == (4, 12)


async def test_the_catalog_follows_the_settings(database: Database, passwords: Passwords) -> None:
    await bootstrap(database, admin_password="pw", passwords=passwords)
    moved = own_entries("https://cloud.example.org/")
    await bootstrap(database, admin_password="pw", passwords=passwords, catalog=moved)

    async with database.read() as connection:
        endpoints = (await catalog_store.read_endpoints(connection, [], Page())).items
    assert {one.url for one in endpoints} == {entry.url for entry in moved}
    assert "https://cloud.example.org/compute/v2.1" in {one.url for one in endpoints}


async def test_a_life(database: Database, passwords: Passwords) -> None:
    ids = await bootstrap(database, admin_password="pw", passwords=passwords)
    keys = TokenKeys(database, ClusterSecret("s" * 32), time.time)
    await keys.prepare()
    revocations = Revocations(database, time.time, token_lifetime_s=3600)
    authority = TokenAuthority(keys.ring, revocations, time.time)
    services = assemble(database, authority, revocations, passwords, time.time)

    async def log_in(user_id: str, password: str, scope: ScopeAsk) -> str:
        proof = PasswordProof(Named(id=user_id), password)
        return (await services.tokens.issue(AuthenticationAsk((proof,), scope))).text

    admin = authority.context(await log_in(ids.admin_user_id, "pw", ScopeAsk()))
    assert admin.is_admin
    with pytest.raises(Unauthenticated):
        await log_in(ids.admin_user_id, "wrong", ScopeAsk())
    project = await services.projects.create(admin, ProjectPatch(name="demo", tags=["t"]))
    user = await services.users.create(admin, UserPatch(name="alice", password="secret"))
    unscoped = await log_in(user.id, "secret", ScopeAsk(ScopeKind.UNSCOPED))
    assert authority.context(unscoped).user_name == "alice"

    await services.users.update(user.id, UserPatch(enabled=False))
    with pytest.raises(Unauthenticated):
        authority.context(unscoped)
    again = Revocations(database, time.time, token_lifetime_s=3600)
    await again.refresh()
    with pytest.raises(Unauthenticated):
        TokenAuthority(keys.ring, again, time.time).context(unscoped)
    with pytest.raises(Unauthenticated):
        await services.tokens.issue(AuthenticationAsk((TokenProof(unscoped),), ScopeAsk()))
    await services.users.delete(user.id)
    await services.projects.delete(project.id)


async def test_a_new_password_on_request(database: Database, passwords: Passwords) -> None:
    ids = await bootstrap(database, admin_password="first", passwords=passwords)
    keys = TokenKeys(database, ClusterSecret("s" * 32), time.time)
    await keys.prepare()
    revocations = Revocations(database, time.time, token_lifetime_s=3600)
    services = assemble(database, TokenAuthority(keys.ring, revocations, time.time), revocations, passwords, time.time)

    async def may_enter(password: str) -> bool:
        proof = PasswordProof(Named(id=ids.admin_user_id), password)
        try:
            await services.tokens.issue(AuthenticationAsk((proof,), ScopeAsk()))
        except Unauthenticated:
            return False
        return True

    await bootstrap(database, admin_password="second", passwords=passwords)
    assert [await may_enter("first"), await may_enter("second")] == [True, False]
    await bootstrap(database, admin_password="second", passwords=passwords, reset_password=True)
    assert [await may_enter("first"), await may_enter("second")] == [False, True]

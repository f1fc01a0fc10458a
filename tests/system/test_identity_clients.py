"""The stock clients against the identity API on a real server: the `openstack` command and openstacksdk."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import openstack
import pytest
from keystoneauth1.exceptions import Unauthorized
from openstack.exceptions import ForbiddenException
from tests.databases import make_tables
from tests.openstack_command import OpenStack, openstack_command
from tests.serving import serving

from muster.api.http.mounts import Mounts
from muster.api.identity.application import application, assemble
from muster.base.clock import system_clock
from muster.services.cluster_secret import ClusterSecret
from muster.services.identity_bootstrap import bootstrap
from muster.services.passwords import Passwords, PasswordSettings
from muster.services.revocations import Revocations
from muster.services.token_authority import TokenAuthority
from muster.services.token_keys import TokenKeys
from muster.store.engine import Database
from muster.store.tables import metadata  # noqa: F401 - create_all makes the tables of all modules imported

pytestmark = pytest.mark.system

START_TIMEOUT_S = 300.0
ADMIN_PASSWORD = "an admin's password"


class Server:
    """The identity API on a free port of the loopback, in a thread of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = ""
        self._ready = threading.Event()
        self._end: Callable[[], object] = lambda: None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        if not self._ready.wait(START_TIMEOUT_S) or self._failure:
            raise RuntimeError("the server did not start") from self._failure

    def stop(self) -> None:
        self._end()
        self._thread.join(START_TIMEOUT_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
            self._ready.set()

    async def _serve(self) -> None:
        ended = asyncio.Event()
        db = Database(f"sqlite:///{self.directory}/identity.db")
        passwords = Passwords(PasswordSettings(time_cost=1, memory_kib=8))
        try:
            await make_tables(db)
            keys = TokenKeys(db, ClusterSecret("s" * 32), system_clock)
            await keys.prepare()
            await bootstrap(db, admin_password=ADMIN_PASSWORD, passwords=passwords)
            revocations = Revocations(db, system_clock, token_lifetime_s=3600)
            authority = TokenAuthority(keys.ring, revocations, system_clock)
            api = application(assemble(db, authority, revocations, passwords, system_clock), authority)
            async with serving(Mounts({"/identity": api})) as base_url:
                self.url = base_url + "/identity"
                self._end = partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
                self._ready.set()
                await ended.wait()
        finally:
            passwords.close()
            await db.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    one = Server(tmp_path_factory.mktemp("identity"))
    one.start()
    yield one
    one.stop()


def auth(server: Server, **who: str) -> dict[str, str]:
    """The environment of a user."""
    return {
        "OS_AUTH_URL": server.url,
        "OS_IDENTITY_API_VERSION": "3",
        "OS_CLIENT_CONFIG_FILE": "/nonexistent",
        **{f"OS_{name.upper()}": value for name, value in who.items()},
    }


def user(server: Server, name: str, password: str, project: str) -> dict[str, str]:
    """The environment of a user with a password."""
    domains = {"user_domain_name": "Default", "project_domain_id": "default"}
    return auth(server, username=name, password=password, project_name=project, **domains)


@pytest.mark.timeout(900)
def test_a_life_on_the_command_line(server: Server, tmp_path: Path) -> None:
    with openstack_command(tmp_path, user(server, "admin", ADMIN_PASSWORD, "admin")) as admin:
        _live(server, admin)


def _live(server: Server, admin: OpenStack) -> None:
    assert admin.json("token", "issue")["id"]
    host = server.url.removesuffix("/identity")
    catalog = {entry["Type"]: entry for entry in admin.json("catalog", "list")}
    assert set(catalog) == {"identity", "compute", "network", "image"}
    assert {one["url"] for one in catalog["compute"]["Endpoints"]} == {f"{host}/compute/v2.1"}

    project = admin.json("project", "create", "demo", "--description", "a demo", "--tag", "t")
    assert project["tags"] == ["t"]
    alice = admin.json(
        "user", "create", "alice", "--password", "first", "--project", "demo", "--email", "a@example.org"
    )
    assert alice["email"] == "a@example.org"
    admin.json("role", "create", "observer")
    admin("role", "add", "--user", "alice", "--project", "demo", "member")
    admin("role", "add", "--user", "alice", "--project", "demo", "observer")
    rows = admin.json("role", "assignment", "list", "--names", "--user", "alice")
    assert {(row["Role"], row["User"], row["Project"]) for row in rows} == {
        ("member", "alice@Default", "demo@Default"),
        ("observer", "alice@Default", "demo@Default"),
    }
    rows = admin.json("role", "assignment", "list", "--names", "--user", "alice", "--effective")
    assert {row["Role"] for row in rows} == {"member", "observer", "reader"}
    admin("role", "remove", "--user", "alice", "--project", "demo", "observer")

    mine = admin.with_environment(user(server, "alice", "first", "demo"))
    assert mine.json("token", "issue")["project_id"] == project["id"]
    assert "403" in mine("user list", status=1)
    credential = mine.json("application", "credential", "create", "ci", "--role", "reader")
    secret = {"application_credential_id": credential["ID"], "application_credential_secret": credential["Secret"]}
    by_credential = admin.with_environment(auth(server, auth_type="v3applicationcredential", **secret))
    assert by_credential.json("token", "issue")["project_id"] == project["id"]
    mine("user", "password", "set", "--original-password", "first", "--password", "second")
    mine("token issue", status=1)
    mine = admin.with_environment(user(server, "alice", "second", "demo"))
    mine("application", "credential", "delete", "ci")
    by_credential("token issue", status=1)

    admin("group", "create", "crew")
    admin("group", "add", "user", "crew", "alice")
    assert "alice in group crew" in admin("group", "contains", "user", "crew", "alice")
    for kind, name in (("group", "crew"), ("user", "alice"), ("project", "demo"), ("role", "observer")):
        admin(kind, "delete", name)
        admin(kind, "show", name, status=1)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # about the library itself
def test_openstacksdk(server: Server) -> None:
    where = {"auth_url": server.url, "user_domain_id": "default", "project_domain_id": "default"}
    admin = openstack.connect(**where, username="admin", password=ADMIN_PASSWORD, project_name="admin")
    try:
        project = admin.identity.create_project(name="sdk", description="x")
        user = admin.identity.create_user(name="bob", password="pw", default_project_id=project.id)
        role = admin.identity.find_role("member", ignore_missing=False)
        admin.identity.assign_project_role_to_user(project, user, role)
        assert admin.identity.validate_user_has_project_role(project, user, role)
        assert admin.identity.find_user("bob").id == user.id
        assert [one.id for one in admin.identity.projects(name="sdk")] == [project.id]

        bob = openstack.connect(**where, username="bob", password="pw", project_name="sdk")
        try:
            assert bob.current_project_id == project.id
            assert [one.id for one in bob.identity.user_projects(user)] == [project.id]
            with pytest.raises(ForbiddenException):
                list(bob.identity.users())
            admin.identity.update_user(user, is_enabled=False)
            with pytest.raises(Unauthorized):  # the token is void, and the client cannot get another
                bob.identity.get_user(user.id)
        finally:
            bob.close()
        admin.identity.delete_user(user)
        admin.identity.delete_project(project)
        assert admin.identity.find_project("sdk") is None
    finally:
        admin.close()

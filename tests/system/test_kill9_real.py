"""kill -9 of a cloud with real guests: the machine has what the API says, nothing twice, and at the end nothing."""

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from random import Random

import httpx
import pytest

pytest.importorskip("libvirt")

from real_cloud import RealCloud, real_cloud
from tests.audit import ledger, machine
from tests.waiting import eventually

pytestmark = [pytest.mark.system, pytest.mark.root, pytest.mark.timeout(900)]

SEED = 9
NAMES = ("one", "two", "three")
# Within this time after the requests a guest is on its way: image, tap, rules, DHCP, QEMU, or their removal.
CREATING_S, STARTING_S, DELETING_S = 3.0, 5.0, 1.5


class User:
    """Asks for guests and for their deletion, all at once, of a cloud that may die meanwhile."""

    def __init__(self, cloud: RealCloud, pool: ThreadPoolExecutor, rng: Random) -> None:
        self.cloud = cloud
        self._pool = pool
        self._rng = rng

    def there(self) -> dict[str, str]:
        """Names of the servers that the database has, and their ids."""
        return {name: server_id for server_id, name in ledger.live_servers(self.cloud.folder / "muster.db").items()}

    def create(self) -> list[Future[bool]]:
        missing = [name for name in NAMES if name not in self.there()]
        return self._ask(lambda name: self.cloud.create_server(name, config_drive=name == "one"), missing)

    def delete(self) -> list[Future[bool]]:
        def one(server_id: str) -> None:
            self.cloud.ask("DELETE", f"/compute/v2.1/servers/{server_id}")

        return self._ask(one, self.there().values())

    def killed(self, asked: Iterable[Future[bool]], within_s: float) -> None:
        """Kill the cloud at a random moment, and start it again."""
        time.sleep(self._rng.uniform(0.0, within_s))
        self.cloud.end(signal.SIGKILL)
        for future in asked:
            future.result(300)
        self.cloud.start()

    def at_rest(self) -> None:
        eventually("all is done", lambda: not ledger.restless(self.cloud.folder / "muster.db"))

    def check(self) -> None:
        """The machine has what the API says, and the database adds up."""
        servers = self.cloud.ask("GET", "/compute/v2.1/servers/detail")["servers"]
        ports = self.cloud.ask("GET", "/network/v2.0/ports")["ports"]
        assert {server["status"] for server in servers} <= {"ACTIVE"}
        wanted = machine.wanted(servers, ports)

        def differences() -> list[str]:
            return machine.audit(self.cloud.folder, self.cloud.namespace, wanted)

        # What a host removes at its leisure (a stray that it found at its start) may take a while to go.
        eventually("the machine has what it should", lambda: not differences())
        assert ledger.audit(self.cloud.folder / "muster.db") == []

    def _ask(self, ask: Callable[[str], object], whom: Iterable[str]) -> list[Future[bool]]:
        def answered(what: str) -> bool:
            try:
                ask(what)
            except httpx.TransportError:
                return False  # it died: whether it was taken shows later
            return True

        return [self._pool.submit(answered, what) for what in whom]


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    with real_cloud(tmp_path, "--sim-hosts", "0") as cloud, ThreadPoolExecutor(len(NAMES)) as pool:
        yield User(cloud, pool, Random(SEED))


def test_the_machine_has_what_the_api_says_and_in_the_end_nothing(user: User) -> None:
    user.killed(user.create(), CREATING_S)
    user.killed([], STARTING_S)  # while it takes up what it finds
    for asked in user.create():
        assert asked.result(300)
    user.at_rest()
    user.check()
    assert user.there().keys() == set(NAMES)
    user.killed(user.delete(), DELETING_S)
    user.killed([], STARTING_S)
    for asked in user.delete():
        assert asked.result(300)
    eventually("all are deleted", lambda: not user.there())
    user.check()
    user.cloud.end(signal.SIGTERM)
    eventually("nothing of the host is left", lambda: not user.cloud.leftovers())

"""The allocator behind the ports API, on a real store, against the simplest model there is: who has which number.

The machine plays everything that gives, takes and moves addresses, in batches too; after each step what the store has
free, given and resting is what the model says, to the number. Once more it is played by two workers with leases: what a
worker has on lease rests, as far as anybody else can see, and it may give it to a port. What a worker had that
died rests until the lease ends.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.databases import make_tables

from muster.api.network.services import Services, assemble, assemble_batch
from muster.base.errors import MusterError
from muster.base.ids import new_uuid
from muster.domain.addresses import eui64, to_number, to_text
from muster.domain.context import Context
from muster.domain.networks import NewNetwork
from muster.domain.port_changes import PortChanges
from muster.domain.ports import NewPort, Port, WantedIp
from muster.domain.specs import FixedIp
from muster.domain.subnets import NewSubnet, Pool, SubnetChanges
from muster.locks.protocol import Grant
from muster.locks.tooz import ToozLocks
from muster.services.outbox import Outbox
from muster.services.port_work import PortSettings
from muster.services.quotas import Quotas
from muster.store import addresses as store
from muster.store.engine import Database
from muster.store.ports import read_holders

ADMIN = Context(user_id="a", project_id="adm", roles=frozenset({"admin"}))
REST_S = 100.0
LEASE_S = 30.0
# One takes about a second of CPU.
EXAMPLES = int(os.environ.get("MUSTER_ALLOCATOR_EXAMPLES", "5"))
EXHAUSTED = "network.IpAddressGenerationFailure"
TAKEN = "network.IpAddressAlreadyAllocated"
# Name: (CIDR, first and last address of the pool, IPv6 mode). In the order in which they are tried.
SUBNETS = {
    "first": ("10.0.0.0/24", 10, 15, None),
    "second": ("10.0.1.0/24", 10, 13, None),
    "six": ("fd00:6::/64", 16, 24, "dhcpv6-stateful"),
    "auto": ("fd00:a::/64", None, None, "slaac"),
}
POOLED = ("first", "second", "six")

Result = TypeVar("Result")


class Model:
    """One subnet: the numbers of its pools, which port has which, and until when the released ones rest."""

    def __init__(self, name: str) -> None:
        self.cidr, first, last, _ = SUBNETS[name]
        self.base = to_number(self.cidr.partition("/")[0])
        self.pool = set(range(self.base + first, self.base + last + 1)) if first is not None else set()
        self.given: dict[int, str] = {}
        self.resting: dict[int, float] = {}
        self.leased: dict[int, int] = {}  # of these, by which worker

    def free(self) -> set[int]:
        return self.pool - self.given.keys() - self.resting.keys()

    def next(self, now: float, worker: int = 0) -> set[int]:
        """Which number comes next; several that were released at one moment come in any order."""
        mine = {number for number, holder in self.leased.items() if holder == worker and self.resting[number] > now}
        return mine | self._next(now)

    def _next(self, now: float) -> set[int]:
        over = [until for until in self.resting.values() if until <= now]
        if over:
            return self._released_at(min(over))
        if self.free():
            return {min(self.free())}
        return self._released_at(min(self.resting.values())) if self.resting else set()

    def give(self, number: int, port_id: str) -> None:
        assert number not in self.given
        self.resting.pop(number, None)
        self.leased.pop(number, None)
        self.given[number] = port_id

    def release(self, number: int, now: float) -> None:
        del self.given[number]
        if number in self.pool:
            self.resting[number] = now + REST_S

    def set_pool(self, pool: set[int]) -> None:
        self.pool = pool
        self.resting = {number: until for number, until in self.resting.items() if number in pool}
        self.leased = {number: worker for number, worker in self.leased.items() if number in pool}

    def _released_at(self, moment: float) -> set[int]:
        return {number for number, until in self.resting.items() if until == moment}


class Contended(ToozLocks):
    """Says that others wait for its locks."""

    @asynccontextmanager
    async def hold_all(self, names: Sequence[str]) -> AsyncIterator[dict[str, Grant]]:
        async with super().hold_all(names) as grants:
            for grant in grants.values():
                grant.contended = True
            yield grants


class Allocator(RuleBasedStateMachine):
    """Plays. `self.models` are the subnets by name, `self.ports` the ports that users have."""

    template: Path
    names: Sequence[str] = tuple(SUBNETS)
    lease_s = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.worker = 0
        self.now = 1_000.0
        self.folder = Path(tempfile.mkdtemp(prefix="muster-allocator-"))
        shutil.copy(self.template, self.folder / "muster.db")
        self.runner = asyncio.Runner()
        self.models = {name: Model(name) for name in self.names}
        self.ids: dict[str, str] = {}
        self.ports: list[Port] = []
        self.run(self._prepare())

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self._close())
        self.runner.close()
        shutil.rmtree(self.folder)

    async def _prepare(self) -> None:
        self.database = Database(f"sqlite:///{self.folder}/muster.db")
        self.locks = Contended(f"file://{self.folder}/locks", "one", self.folder / "tokens")
        await self.locks.start()
        self.seeds = count()
        self.workers = [self._assembled(next(self.seeds)) for _ in range(2)]
        [network] = await self.services.networks.create(ADMIN, [NewNetwork(id=new_uuid(), project_id="adm")])
        self.network_id = network.id
        for name in self.names:
            await self._subnet(name)
        await self._follow_dhcp_port()

    def _assembled(self, seed: int) -> Services:
        batch, groups = assemble_batch(
            self.database,
            self.locks,
            Quotas({}),
            Outbox(self._clock),
            clock=self._clock,
            rng=Random(seed),
            settings=PortSettings(rest_s=REST_S, lease_s=self.lease_s),
        )
        return assemble(self.database, batch, groups)

    @property
    def services(self) -> Services:
        return self.workers[self.worker]

    async def _subnet(self, name: str) -> None:
        cidr, _, _, mode = SUBNETS[name]
        pool = sorted(self.models[name].pool)
        version = 6 if ":" in cidr else 4
        more = {"allocation_pools": _pools(pool, version)} if pool else {}
        draft = NewSubnet(
            id=new_uuid(),
            project_id="adm",
            network_id=self.network_id,
            ip_version=version,
            cidr=cidr,
            gateway_ip=None,
            enable_dhcp=version == 6,
            ipv6_address_mode=mode,
            **more,  # type: ignore[arg-type]
        )
        [made] = await self.services.subnets.create(ADMIN, [draft])
        self.ids[name] = made.id
        self.now += 1  # subnets are tried in the order of their age

    async def _close(self) -> None:
        await self.locks.close()
        await self.database.close()

    def _clock(self) -> float:
        return self.now

    # What is played.

    @rule(count=st.integers(1, 4))
    def ask_for_any(self, count: int) -> None:
        self._made(self._create([None] * count), [None] * count)

    @rule(names=st.lists(st.sampled_from([*POOLED, "first", "any"]), min_size=1, max_size=6))
    def ask_here_and_there(self, names: list[str]) -> None:
        """One batch of ports, each in a subnet of its own choice or in any."""
        wishes = [None if name == "any" else [(name, None)] for name in names]
        self._made(self._create(wishes), wishes)

    @rule(name=st.sampled_from(POOLED), offset=st.integers(8, 26), others=st.integers(0, 2))
    def ask_for_one_by_name(self, name: str, offset: int, others: int) -> None:
        """In the pools or outside; free, given or resting; in one batch with ports that want any."""
        wishes = [*[None] * others, [(name, self.models[name].base + offset)], None]
        self._made(self._create(wishes), wishes)

    @rule(count=st.integers(1, 7))
    def ask_for_all_or_none(self, count: int) -> None:
        before = self._snapshot()
        try:
            made = self.run(self.services.ports.create_many(ADMIN, [self._draft(None) for _ in range(count)]))
        except MusterError as error:
            assert error.code == EXHAUSTED  # noqa: PT017
            macs = [f"fa:16:00:00:00:{index:02x}" for index in range(count)]
            assert not all(self._expected(None, port_id=f"p{mac}", mac_address=mac) for mac in macs)
            self._restore(before)
        else:
            self._made(made, [None] * count)

    @precondition(lambda self: self.ports)
    @rule(picks=st.lists(st.integers(0, 50), min_size=1, max_size=4))
    def delete_some(self, picks: list[int]) -> None:
        doomed = {self.ports[pick % len(self.ports)].id for pick in picks}
        self.run(_all([self.services.ports.delete(ADMIN, port_id) for port_id in doomed]))
        for port in [port for port in self.ports if port.id in doomed]:
            self.ports.remove(port)
            for one in port.fixed_ips:
                self._model_of(one).release(to_number(one.ip_address), self.now)

    @precondition(lambda self: self.ports)
    @rule(pick=st.integers(0, 50), keep=st.booleans(), offset=st.integers(8, 16))
    def move_a_port(self, pick: int, keep: bool, offset: int) -> None:
        """A port gets a named address more, or instead of all that it has."""
        port = self.ports[pick % len(self.ports)]
        number = self.models["first"].base + offset
        kept = [WantedIp(subnet_id=one.subnet_id, ip_address=one.ip_address) for one in port.fixed_ips if keep]
        new = WantedIp(subnet_id=self.ids["first"], ip_address=to_text(number, 4))
        held = self.models["first"].given.get(number)
        if held == port.id:
            return
        changes = PortChanges(fixed_ips=(*kept, new))
        try:
            after = self.run(self.services.ports.update(ADMIN, port.id, changes))
        except MusterError as error:
            assert (error.code, held is not None) == (TAKEN, True)  # noqa: PT017
            return
        assert held is None
        for one in () if keep else port.fixed_ips:
            self._model_of(one).release(to_number(one.ip_address), self.now)
        self.models["first"].give(number, port.id)
        self.ports[self.ports.index(port)] = after

    @rule(name=st.sampled_from(["first", "second"]), first=st.integers(8, 13), size=st.integers(1, 7))
    def change_pools(self, name: str, first: int, size: int) -> None:
        """While addresses inside and outside are given and rest."""
        model = self.models[name]
        numbers = range(model.base + first, model.base + first + size)
        changes = SubnetChanges(allocation_pools=_pools(numbers, 4))
        self.run(self.services.subnets.update(ADMIN, self.ids[name], changes))
        model.set_pool(set(numbers))

    @rule(enable=st.booleans())
    def switch_dhcp(self, enable: bool) -> None:
        """The DHCP port takes an address of its own by the same path, or gives it back."""
        model = self.models["first"]
        mine = [number for number, port_id in model.given.items() if port_id == self.dhcp_port]
        expected = model.next(self.now, self.worker)
        try:
            changes = SubnetChanges(enable_dhcp=enable)
            self.run(self.services.subnets.update(ADMIN, self.ids["first"], changes))
        except MusterError as error:
            assert error.code == EXHAUSTED  # noqa: PT017
            assert enable
            assert not expected
            assert not mine
            return
        self.run(self._follow_dhcp_port(expected if enable and not mine else set()))
        if not enable and mine:
            model.release(mine[0], self.now)

    @rule(seconds=st.sampled_from([1.0, REST_S / 2, REST_S]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    # What must hold after each step.

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        for name, model in self.models.items():
            free, given, resting = self.run(self._stored(name))
            self._learn(model, resting)
            assert given == model.given
            assert resting == model.resting
            assert sorted(free) == sorted(model.free()), name

    def _learn(self, model: Model, resting: dict[int, float]) -> None:
        """Note what the worker has just leased: it rests until the lease's end."""
        for number, until in resting.items():
            if model.resting.get(number) != until and self.lease_s:
                assert until == self.now + self.lease_s
                assert number in model.free() | model.resting.keys()
                model.resting[number] = until
                model.leased[number] = self.worker

    async def _stored(self, name: str) -> tuple[list[int], dict[int, str], dict[int, float]]:
        async with self.database.read() as connection:
            ranges = await store.read_all_ranges(connection, self.ids[name])
            table = store.addresses
            rows = (await connection.execute(table.select().where(table.c.subnet_id == self.ids[name]))).all()
        return (
            [number for one in ranges for number in range(one.first, one.last + 1)],
            {int(row.address, 16): row.port_id for row in rows if row.port_id is not None},
            {int(row.address, 16): row.free_at for row in rows if row.port_id is None},
        )

    # How.

    def _create(self, wishes: Sequence[Any]) -> list[Port | BaseException]:
        """Ports asked for at once; they become one batch."""
        return self.run(_all([self.services.ports.create(ADMIN, self._draft(wish)) for wish in wishes]))

    def _draft(self, wish: Any) -> NewPort:
        wanted = None
        if wish is not None:
            wanted = tuple(
                WantedIp(
                    subnet_id=self.ids[name],
                    ip_address=None if number is None else to_text(number, 6 if ":" in SUBNETS[name][0] else 4),
                )
                for name, number in wish
            )
        return NewPort(id=new_uuid(), project_id="adm", network_id=self.network_id, fixed_ips=wanted)

    def _made(self, outcomes: Sequence[Port | BaseException], wishes: Sequence[Any]) -> None:
        """Follow a batch in the model, in its order, and compare."""
        for outcome, wish in zip(outcomes, wishes, strict=True):
            before = self._snapshot()
            if isinstance(outcome, Port):
                got = {self._name_of(one): to_number(one.ip_address) for one in outcome.fixed_ips}
                assert len(got) == len(outcome.fixed_ips)
                assert self._expected(wish, port_id=outcome.id, got=got, mac_address=outcome.mac_address)
                self.ports.append(outcome)
            else:
                assert isinstance(outcome, MusterError), outcome
                if outcome.code == TAKEN:
                    [(name, number)] = wish
                    assert number in self.models[name].given
                else:
                    assert outcome.code == EXHAUSTED
                    assert not self._expected(wish, port_id="nobody")
                self._restore(before)

    def _expected(
        self, wish: Any, *, port_id: str, got: dict[str, int] | None = None, mac_address: str = "fa:16:00:00:00:01"
    ) -> bool:
        """Give in the model what the wish comes to; False if it cannot be. `got` must be among what is right."""
        wants = (
            [[(name, number)] for name, number in wish]
            if wish is not None
            else [[("first", None), ("second", None)], [("six", None)]]
        )
        if wish is None and "auto" in self.models:
            wants.append([("auto", eui64(SUBNETS["auto"][0], mac_address))])
        given = 0
        for candidates in wants:
            for name, number in candidates:
                right = {number} if number is not None else self.models[name].next(self.now, self.worker)
                if self.lease_s and got is not None and name not in got:
                    continue  # what it has on lease of the next subnet comes first
                if right:
                    chosen = min(right) if got is None else got[name]
                    assert chosen in right, (name, chosen, right)
                    self.models[name].give(chosen, port_id)
                    given += 1
                    break
            else:
                return False
        assert got is None or given == len(got)
        return True

    def _snapshot(self) -> dict[str, tuple[dict[int, str], dict[int, float], dict[int, int]]]:
        return {name: (dict(m.given), dict(m.resting), dict(m.leased)) for name, m in self.models.items()}

    def _restore(self, snapshot: dict[str, tuple[dict[int, str], dict[int, float], dict[int, int]]]) -> None:
        for name, (given, resting, leased) in snapshot.items():
            model = self.models[name]
            model.given, model.resting, model.leased = given, resting, leased

    async def _follow_dhcp_port(self, expected: set[int] | None = None) -> None:
        """Note the DHCP port's addresses that the model does not know yet."""
        async with self.database.read() as connection:
            for name, model in self.models.items():
                for port_id, owner, ip_address in await read_holders(connection, self.ids[name]):
                    number = to_number(ip_address)
                    if owner == "network:dhcp" and number not in model.given:
                        self.dhcp_port = port_id
                        assert expected is None or number in expected
                        assert name == "auto" or number in model.next(self.now, self.worker)
                        model.give(number, port_id)

    def _name_of(self, one: FixedIp) -> str:
        return next(name for name, subnet_id in self.ids.items() if subnet_id == one.subnet_id)

    def _model_of(self, one: FixedIp) -> Model:
        return self.models[self._name_of(one)]


class Leasing(Allocator):
    """By two workers with leases, each of which takes all that it can get."""

    names = POOLED
    lease_s = LEASE_S

    @rule()
    def the_other_worker_goes_on(self) -> None:
        self.worker = 1 - self.worker
        self.now += 0.01  # no two workers' leases end at the same moment

    @rule()
    def the_worker_dies(self) -> None:
        """Another takes its place. What the dead one had on lease rests until then, for everybody."""
        self.workers[self.worker] = self._assembled(next(self.seeds))
        for model in self.models.values():
            model.leased = {number: holder for number, holder in model.leased.items() if holder != self.worker}
        self.now += 0.01


async def _all(work: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
    return await asyncio.gather(*work, return_exceptions=True)


def _pools(numbers: Sequence[int], version: int) -> tuple[Pool, ...]:
    return (Pool(to_text(numbers[0], version), to_text(numbers[-1], version)),)


async def _template(path: Path) -> None:
    database = Database(f"sqlite:///{path}")
    await make_tables(database)
    await database.close()


def _play(machine: type[Allocator], folder: Path, examples: int) -> None:
    asyncio.run(_template(folder / "template.db"))
    case = type("Played", (machine,), {"template": folder / "template.db"}).TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    case("runTest").runTest()


def test_the_allocator_does_what_the_model_does(tmp_path: Path) -> None:
    _play(Allocator, tmp_path, EXAMPLES)


@pytest.mark.parametrize("large", [64, 0], ids=["under the lock", "leased first"])
def test_so_it_does_with_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: int) -> None:
    monkeypatch.setattr("muster.services.leases.LARGE", large)
    monkeypatch.setattr("muster.domain.leases._SHARE_AHEAD", 1)
    _play(Leasing, tmp_path, EXAMPLES)

"""A whole /12, given out batch by batch under the subnet's lock: does the last address cost what the first did?

Below the ports API, at `services.addresses`: one lock, one transaction and one commit per batch, all to one port.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.outcome import Aim, Grid, Outcome, machine
from benchmarks.progress import Teller
from muster.base.ids import new_uuid
from muster.cli.cloud import CloudSettings, running
from muster.cli.control_plane import Cloud
from muster.domain.context import Context
from muster.domain.networks import NewNetwork
from muster.domain.port_batch import Want
from muster.domain.ports import NewPort
from muster.domain.subnets import NewSubnet
from muster.services.addresses import Asker, Granted, allocate

YARDSTICK = "the first 10,000 addresses of the same run"


class Sizes(msgspec.Struct, frozen=True):
    """A subnet, and how many addresses a batch takes; `part` is what first and last are compared by."""

    cidr: str = "10.16.0.0/12"
    free: int = (1 << 20) - 2
    batch: int = 5_000
    part: int = 10_000


QUICK = Sizes(cidr="10.16.0.0/17", free=(1 << 15) - 2, batch=2_000, part=4_000)


async def run(teller: Teller, quick: bool) -> Outcome:
    """The whole benchmark."""
    began, where, sizes = time.monotonic(), machine(), QUICK if quick else Sizes()
    with TemporaryDirectory(prefix="muster-benchmark-") as folder:
        async with running(CloudSettings(folder=Path(folder)), "a-password-of-no-importance") as cloud:
            subject = await _Subject.made(cloud, sizes)
            batches = -(-sizes.free // sizes.batch)
            with teller.steps(f"batches of {sizes.batch:,} addresses", batches) as step:
                for _ in range(batches):
                    await subject.take(sizes.batch)
                    step()
            granted, doubled = await subject.check()
    return Outcome(
        name="addresses",
        quick=quick,
        yardstick=YARDSTICK,
        machine=where,
        duration_s=time.monotonic() - began,
        grids=[_grid(subject.times_s, sizes)],
        aims=_aims(subject, sizes, doubled, granted),
    )


class _Subject:
    """One subnet, one port that gets everything, and how long each batch took."""

    def __init__(self, cloud: Cloud, sizes: Sizes, network_id: str, subnet_id: str, port_id: str) -> None:
        self._cloud = cloud
        self._sizes = sizes
        self._network_id = network_id
        self._subnet_id = subnet_id
        self._port_id = port_id
        self.times_s: list[float] = []
        self.numbers: list[int] = []
        self.refused = 0

    @classmethod
    async def made(cls, cloud: Cloud, sizes: Sizes) -> "_Subject":
        """A fresh network with one subnet."""
        admin = Context(user_id=cloud.admin_user_id, project_id=cloud.admin_project_id, roles=frozenset({"admin"}))
        project_id = cloud.admin_project_id
        draft = NewNetwork(id=new_uuid(), project_id=project_id, name="large")
        [network] = await cloud.network.networks.create(admin, [draft])
        port = await cloud.network.ports.create(
            admin, NewPort(id=new_uuid(), project_id=project_id, network_id=network.id, fixed_ips=())
        )
        subnet = NewSubnet(
            id=new_uuid(),
            project_id=project_id,
            network_id=network.id,
            ip_version=4,
            cidr=sizes.cidr,
            gateway_ip=None,
            enable_dhcp=False,
        )
        [made] = await cloud.network.subnets.create(admin, [subnet])
        return cls(cloud, sizes, network.id, made.id, port.id)

    async def take(self, count: int) -> None:
        """One batch."""
        wants = (Want(candidates=(self._subnet_id,)),)
        askers = [Asker(self._port_id, self._network_id, wants) for _ in range(count)]
        began = time.monotonic()
        batch = self._cloud.network.ports._batch
        async with batch.transaction([self._network_id]) as work:
            outcomes = await allocate(work.connection, askers, {self._subnet_id: 4}, batch.clock())
        self.times_s.append(time.monotonic() - began)
        self.numbers += [outcome.addresses[0][1] for outcome in outcomes if isinstance(outcome, Granted)]
        self.refused += sum(not isinstance(outcome, Granted) for outcome in outcomes)

    async def check(self) -> tuple[int, int]:
        """How many addresses were granted, and how many of them twice; the database has the same ones."""
        return len(self.numbers), len(self.numbers) - len(set(self.numbers))


def _rates(times_s: list[float], sizes: Sizes) -> tuple[float, float, float]:
    """Addresses per second: the first part, the last whole part, all. The last batch is short and refuses the rest."""
    n = sizes.part // sizes.batch
    whole = times_s[:-1]
    return sizes.part / sum(whole[:n]), sizes.part / sum(whole[-n:]), sizes.free / sum(times_s)


def _grid(times_s: list[float], sizes: Sizes) -> Grid:
    first, last, every = _rates(times_s, sizes)
    rows: list[list[str | float]] = [
        [f"the first {sizes.part:,}", first, 1.0],
        [f"the last {sizes.part:,}", last, last / first],
        [f"all {sizes.free:,}", every, every / first],
    ]
    return Grid(f"addresses of {sizes.cidr} in batches of {sizes.batch:,}", ["", "per s", "of the first"], rows)


def _aims(subject: _Subject, sizes: Sizes, doubled: int, granted: int) -> list[Aim]:
    first, last, every = _rates(subject.times_s, sizes)
    asked = len(subject.times_s) * sizes.batch
    return [
        Aim(what="addresses granted", value=granted, at_least=sizes.free, exact=True),
        Aim(
            what="requests refused beyond the last address",
            value=subject.refused,
            at_least=asked - sizes.free,
            exact=True,
        ),
        Aim(what="addresses given twice", value=doubled, at_most=0, exact=True),
        Aim(what="the last part's rate, of the first's", value=last / first, at_least=0.9),
        Aim(what="addresses per second", value=every, at_least=50_000),
    ]

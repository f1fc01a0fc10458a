"""Hosts: what they have, what is claimed of it, and how far the messages with them have come.

`*_limit` is what may be claimed (capacity less the reserve, times the overcommit); a claim is one conditional update
that never passes it. `desired_seq` grows with each change of what the host should have, `report_seq` is the newest
report written.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct
from sqlalchemy import (
    Column,
    ColumnElement,
    Float,
    FromClause,
    Index,
    Select,
    String,
    Table,
    bindparam,
    case,
    func,
    or_,
    select,
    update,
)
from sqlalchemy import text as sql
from sqlalchemy.ext.asyncio import AsyncConnection

from muster.domain.messages import Beat, Hello, epoch_of_time, next_epoch
from muster.domain.network_members import tunnel_address
from muster.domain.placement import Demand, HostPicture, Overcommit, Search, Strategy, servers_limit
from muster.store.columns import counter, flag, identity_column, integer, moment, text
from muster.store.dialects import GivenRows, Keyed, among, chunks, upsert
from muster.store.engine import metadata

#: The constraint that two hosts of one name break.
HOSTNAME_TAKEN = "uq_hosts_hostname"

hosts = Table(
    "hosts",
    metadata,
    identity_column(),
    Column("hostname", String(255), nullable=False, unique=True),
    text("hypervisor_type"),
    integer("hypervisor_version"),
    text("host_ip"),
    text("cpu_info", default=""),
    text("availability_zone", default="nova"),
    text("own_zone", default="nova"),  # what the host's agent says; an aggregate may have moved the host
    flag("firewall", default=True),
    integer("vcpus"),
    integer("ram_mib"),
    integer("disk_gib"),
    integer("reserved_ram_mib", default=0),
    integer("vcpus_limit"),
    integer("ram_limit_mib"),
    integer("disk_limit_gib"),
    integer("vcpus_used", default=0),
    integer("ram_used_mib", default=0),
    integer("disk_used_gib", default=0),
    integer("servers_used", default=0),
    flag("disabled"),
    text("disabled_reason", nullable=True),
    flag("forced_down"),
    Column("last_seen_at", Float(53), nullable=False),
    counter("desired_seq"),
    moment("desired_at", nullable=True),  # when `desired_seq` was raised
    counter("report_seq"),
    moment("created_at"),
    moment("updated_at"),
    # Whether any host enforces security groups costs the same with none of thousands.
    Index("ix_hosts_firewall", "id", sqlite_where=sql("firewall = 1"), postgresql_where=sql("firewall")),
    # Hosts in the order in which servers are spread over them: a search costs what it returns, not what exists.
    Index(
        "ix_hosts_left", sql("(ram_limit_mib - ram_used_mib) DESC"), sql("(vcpus_limit - vcpus_used) DESC"), sql("id")
    ),
)

# What hosts have left for servers; `search` asks in the words of its index.
_ram_left = hosts.c.ram_limit_mib - hosts.c.ram_used_mib
_vcpus_left = hosts.c.vcpus_limit - hosts.c.vcpus_used
_disk_left = hosts.c.disk_limit_gib - hosts.c.disk_used_gib


async def write_hellos(
    connection: AsyncConnection, hellos: Sequence[Hello], overcommit: Overcommit, now: float
) -> None:
    """Register hosts, or write anew what they have. One statement, executed for many."""
    rows = [_row(hello, overcommit, now) for hello in sorted(hellos, key=lambda one: one.host_id)]
    statement = upsert(connection, hosts)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in ("id", "created_at", "report_seq")}
    # A new agent's numbers begin above those of the one before it; the same agent's Hello forgets no report.
    begun = statement.excluded.report_seq
    newer = case((hosts.c.report_seq < begun, begun), else_=hosts.c.report_seq)
    statement = statement.on_conflict_do_update(index_elements=["id"], set_={**changed, "report_seq": newer})
    await connection.execute(statement, rows)


def _row(hello: Hello, overcommit: Overcommit, now: float) -> dict[str, object]:
    capacity = hello.capacity
    limits = overcommit.limits(capacity)
    return {
        "id": hello.host_id,
        "hostname": hello.hostname,
        "hypervisor_type": hello.hypervisor_type,
        "hypervisor_version": hello.hypervisor_version,
        "host_ip": hello.host_ip,
        "cpu_info": hello.cpu_info,
        "availability_zone": hello.availability_zone,
        "own_zone": hello.availability_zone,
        "firewall": hello.firewall,
        "vcpus": capacity.vcpus,
        "ram_mib": capacity.ram_mib,
        "disk_gib": capacity.disk_gib,
        "reserved_ram_mib": capacity.reserved_ram_mib,
        "vcpus_limit": limits.vcpus,
        "ram_limit_mib": limits.ram_mib,
        "disk_limit_gib": limits.disk_gib,
        "last_seen_at": now,
        "report_seq": hello.report_seq,
        "created_at": now,
        "updated_at": now,
    }


def in_order(host_ids: Collection[str]) -> Select[tuple[str]]:
    """These hosts' ids, for a statement that changes many: whose rows everybody takes in this order.

    Not against those who refer to them: others' new servers on the same hosts are no reason to wait, and whoever has
    written some comes here next.
    """
    return _in_order(among(hosts.c.id, host_ids))


def _in_order(theirs: ColumnElement[bool]) -> Select[tuple[str]]:
    return select(hosts.c.id).where(theirs).order_by(hosts.c.id).with_for_update(key_share=True)


async def hold(connection: AsyncConnection, host_ids: Collection[str]) -> None:
    """Take these hosts' rows, in everybody's order, for several statements that change some of them each. One query
    per chunk."""
    for part in chunks(sorted(host_ids)):
        await connection.execute(in_order(part))


# Of hosts, by id: what servers together claim of each, and how many they are.
Shares = Mapping[str, tuple[Demand, int]]


class Progress(Struct, frozen=True):
    """How far the messages with a host have come; `desired_at` is when `desired_seq` was raised, `last_seen_at` when it
    was last noted that the host is alive."""

    desired_seq: int
    desired_at: float | None
    report_seq: int
    last_seen_at: float


_SAID = GivenRows({"id": str, "desired_seq": int, "report_seq": int})


def _differing(said: FromClause) -> Select[Any]:
    return (
        select(hosts.c.id, hosts.c.desired_seq, hosts.c.desired_at, hosts.c.report_seq, hosts.c.last_seen_at)
        .join(said, said.c.id == hosts.c.id)
        .where(
            or_(
                hosts.c.desired_seq != said.c.desired_seq,
                hosts.c.report_seq != said.c.report_seq,
                hosts.c.last_seen_at < bindparam("seen_before"),
            )
        )
    )


_DIFFERING = {dialect: _differing(_SAID.table(dialect)) for dialect in ("sqlite", "postgresql")}
_NOTE_SEEN = Keyed(
    hosts.c.id,
    lambda theirs: update(hosts).where(hosts.c.id.in_(_in_order(theirs))).values(last_seen_at=bindparam("now")),
)


async def read_differing(
    connection: AsyncConnection, beats: Collection[Beat], *, seen_before: float
) -> dict[str, Progress]:
    """How far those of the beats' hosts are that are not as far as they say, or were noted as seen before that moment.

    A beat per host. One query per chunk, which costs per beat a look at the host's row and returns few.
    """
    dialect = connection.dialect.name
    found: dict[str, Progress] = {}
    for part in chunks(list(beats)):
        said = _SAID.bound(dialect, [(beat.host_id, beat.desired_seq, beat.report_seq) for beat in part])
        rows = await connection.execute(_DIFFERING[dialect], {**said, "seen_before": seen_before})
        found.update({host_id: Progress(*rest) for host_id, *rest in rows})
    return found


async def note_seen(connection: AsyncConnection, host_ids: Collection[str], now: float) -> None:
    """These hosts are alive. One statement per chunk."""
    for part in chunks(sorted(host_ids)):
        await connection.execute(*_NOTE_SEEN(part, now=now))


async def begin_epochs(connection: AsyncConnection, known_seqs: Mapping[str, int], now: float) -> None:
    """The numbers of these hosts go on in the epoch after that of what they know. One statement per chunk and epoch."""
    by_epoch: defaultdict[int, list[str]] = defaultdict(list)
    for host_id, seq in sorted(known_seqs.items()):
        by_epoch[next_epoch(seq)].append(host_id)
    for first, host_ids in by_epoch.items():
        for part in chunks(host_ids):
            begun = update(hosts).where(hosts.c.id.in_(in_order(part)), hosts.c.desired_seq < first)
            await connection.execute(begun.values(desired_seq=first, desired_at=now))


async def begin_epoch_of_all(connection: AsyncConnection, now: float) -> int:
    """The numbers of all hosts go on in an epoch that none of them has heard of; how many. Two statements."""
    highest = (await connection.execute(select(func.max(hosts.c.desired_seq)))).scalar()
    first = max(epoch_of_time(now), next_epoch(highest or 0))
    return (await connection.execute(update(hosts).values(desired_seq=first, desired_at=now))).rowcount


_RAISE_REPORT_SEQ = (
    update(hosts)
    .where(hosts.c.id == bindparam("host"), hosts.c.report_seq < bindparam("seq"))
    .values(report_seq=bindparam("seq"))
)


async def raise_report_seqs(connection: AsyncConnection, seqs: Mapping[str, int]) -> None:
    """The newest report written of each host, if it is newer. One statement, executed for many."""
    if seqs:
        rows = [{"host": host_id, "seq": seq} for host_id, seq in sorted(seqs.items())]
        await connection.execute(_RAISE_REPORT_SEQ, rows)


_REPORT_SEQS = Keyed(hosts.c.id, lambda theirs: select(hosts.c.id, hosts.c.report_seq).where(theirs))


async def read_report_seqs(connection: AsyncConnection, host_ids: Collection[str]) -> dict[str, int]:
    """`report_seq` of these hosts, as far as they are known. One query per chunk."""
    seqs: dict[str, int] = {}
    for part in chunks(sorted(host_ids)):
        rows = await connection.execute(*_REPORT_SEQS(part))
        seqs.update((row[0], row[1]) for row in rows)
    return seqs


async def read_seqs(connection: AsyncConnection, host_ids: Collection[str]) -> dict[str, tuple[int, int]]:
    """`desired_seq` and `report_seq` of these hosts. One query per chunk."""
    seqs: dict[str, tuple[int, int]] = {}
    for part in chunks(sorted(host_ids)):
        columns = (hosts.c.id, hosts.c.desired_seq, hosts.c.report_seq)
        rows = await connection.execute(select(*columns).where(among(hosts.c.id, part)))
        seqs.update((row[0], (row[1], row[2])) for row in rows)
    return seqs


async def count(connection: AsyncConnection) -> int:
    """How many hosts there are. One query."""
    return (await connection.execute(select(func.count()).select_from(hosts))).scalar_one()


async def read_down(connection: AsyncConnection, *, seen_after: float) -> set[str]:
    """The names of hosts that were not heard of since then, or are said to be down. One query, which reads all."""
    down = select(hosts.c.hostname).where(or_(hosts.c.forced_down, hosts.c.last_seen_at < seen_after))
    return set((await connection.execute(down)).scalars())


async def read_pictures(connection: AsyncConnection, *, seen_after: float) -> list[HostPicture]:
    """All hosts that may be given servers: enabled, and heard of since `seen_after`. One query."""
    return [_picture(row) for row in await connection.execute(_pictures(seen_after))]


async def search(
    connection: AsyncConnection, wanted: Search, strategy: Strategy, *, seen_after: float
) -> list[HostPicture]:
    """The hosts of `read_pictures` that `wanted` asks for, best first in the order of `domain.placement`. One query."""
    statement = _pictures(seen_after).where(
        _ram_left >= wanted.least.ram_mib,
        _vcpus_left >= wanted.least.vcpus,
        _disk_left >= wanted.least.disk_gib,
        _has_room_on_bridge(wanted.least.servers),
    )
    if wanted.availability_zone is not None:
        statement = statement.where(hosts.c.availability_zone == wanted.availability_zone)
    best = (_ram_left.desc(), _vcpus_left.desc()) if strategy is Strategy.SPREAD else (_ram_left, _vcpus_left)
    statement = statement.order_by(*best, hosts.c.id).limit(wanted.count)
    return [_picture(row) for row in await connection.execute(statement)]


def usable(seen_after: float) -> tuple[ColumnElement[bool], ...]:
    """What is true of hosts that may be given servers: enabled, and heard of since `seen_after`."""
    return hosts.c.disabled.is_(False), hosts.c.forced_down.is_(False), hosts.c.last_seen_at >= seen_after


def _pictures(seen_after: float) -> Select[Any]:
    return select(
        hosts.c.id,
        hosts.c.hostname,
        hosts.c.availability_zone,
        hosts.c.firewall,
        hosts.c.ram_limit_mib,
        hosts.c.servers_used,
        _vcpus_left.label("vcpus"),
        _ram_left.label("ram_mib"),
        _disk_left.label("disk_gib"),
    ).where(*usable(seen_after))


def _picture(row: Any) -> HostPicture:
    return HostPicture(
        id=row.id,
        hostname=row.hostname,
        availability_zone=row.availability_zone,
        firewall=row.firewall,
        free=Demand(
            vcpus=row.vcpus,
            ram_mib=row.ram_mib,
            disk_gib=row.disk_gib,
            servers=servers_limit(firewall=row.firewall) - row.servers_used,
        ),
        ram_limit_mib=row.ram_limit_mib,
        servers=row.servers_used,
    )


def _has_room_on_bridge(servers: int) -> ColumnElement[bool]:
    return or_(hosts.c.firewall.is_(False), hosts.c.servers_used + servers <= servers_limit(firewall=True))


async def claim(connection: AsyncConnection, shares: Shares) -> set[str]:
    """Claim of each host its share for new servers together; the hosts that have that much left. Of others nothing.

    Conditional statements: nothing is ever claimed beyond a host's limits. One for all hosts that give the same; with
    several kinds one before them, so that all rows are taken in everybody's order.
    """
    return set(await _claim(connection, shares, {}))


async def claim_and_raise(connection: AsyncConnection, shares: Shares, now: float) -> dict[str, int]:
    """As `claim`, and raise `desired_seq` of those that have that much left; returns the new numbers."""
    return await _claim(connection, shares, {"desired_seq": hosts.c.desired_seq + 1, "desired_at": now})


async def _claim(connection: AsyncConnection, shares: Shares, also: Mapping[str, object]) -> dict[str, int]:
    given: dict[str, int] = {}
    for demand, servers, ours in await _alike(connection, shares):
        statement = (
            update(hosts)
            .where(
                ours,
                hosts.c.disabled.is_(False),
                hosts.c.forced_down.is_(False),
                hosts.c.vcpus_used + demand.vcpus <= hosts.c.vcpus_limit,
                hosts.c.ram_used_mib + demand.ram_mib <= hosts.c.ram_limit_mib,
                hosts.c.disk_used_gib + demand.disk_gib <= hosts.c.disk_limit_gib,
                _has_room_on_bridge(servers),
            )
            .values({**_used(demand, servers), **also})
            .returning(hosts.c.id, hosts.c.desired_seq)
        )
        given.update((await connection.execute(statement)).all())
    return given


async def release(connection: AsyncConnection, shares: Shares) -> None:
    """Give back what gone servers had claimed of each host. Statements as for `claim`."""
    for demand, servers, ours in await _alike(connection, shares):
        less = Demand(vcpus=-demand.vcpus, ram_mib=-demand.ram_mib, disk_gib=-demand.disk_gib)
        await connection.execute(update(hosts).where(ours).values(_used(less, -servers)))


async def _alike(connection: AsyncConnection, shares: Shares) -> list[tuple[Demand, int, ColumnElement[bool]]]:
    """Shares, and which hosts have them alike, for one statement each, which take rows in everybody's order.

    Where that needs a statement of its own, the rows are ours from here on.
    """
    alike: defaultdict[tuple[Demand, int], list[str]] = defaultdict(list)
    for host_id, share in sorted(shares.items()):
        alike[share].append(host_id)
    parts = [(*share, part) for share, host_ids in alike.items() for part in chunks(host_ids)]
    if len(parts) == 1:
        return [(demand, servers, hosts.c.id.in_(in_order(part))) for demand, servers, part in parts]
    await hold(connection, shares)
    return [(demand, servers, among(hosts.c.id, part)) for demand, servers, part in parts]


def _used(demand: Demand, servers: int) -> dict[str, ColumnElement[int]]:
    return {
        "vcpus_used": hosts.c.vcpus_used + demand.vcpus,
        "ram_used_mib": hosts.c.ram_used_mib + demand.ram_mib,
        "disk_used_gib": hosts.c.disk_used_gib + demand.disk_gib,
        "servers_used": hosts.c.servers_used + servers,
    }


async def any_firewall(connection: AsyncConnection) -> bool:
    """Whether any host enforces security groups; a cloud of simulated hosts has none, and is spared their cost.

    One query.
    """
    return (await connection.execute(select(hosts.c.id).where(hosts.c.firewall).limit(1))).first() is not None


async def read_firewalls(connection: AsyncConnection, host_ids: Collection[str]) -> set[str]:
    """Which of these hosts enforce security groups. One query per chunk."""
    found: set[str] = set()
    for part in chunks(sorted(host_ids)):
        statement = select(hosts.c.id).where(among(hosts.c.id, part), hosts.c.firewall)
        found.update((await connection.execute(statement)).scalars())
    return found


async def read_tunnels(connection: AsyncConnection, hostnames: Collection[str]) -> dict[str, tuple[str, str]]:
    """Id and address for tunnels of those of these hosts that have real networks, by hostname. One query per chunk."""
    found: dict[str, tuple[str, str]] = {}
    for part in chunks(sorted(hostnames)):
        statement = select(hosts.c.hostname, hosts.c.id, hosts.c.host_ip).where(
            among(hosts.c.hostname, part), hosts.c.firewall
        )
        for hostname, host_id, host_ip in await connection.execute(statement):
            if (address := tunnel_address(host_ip)) is not None:
                found[hostname] = (host_id, address)
    return found

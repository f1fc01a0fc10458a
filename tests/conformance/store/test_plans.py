"""What servers' lives ask of the database is found by indexes, however much else there is.

The statements are those that were executed; how the database would find their rows is its own answer. PostgreSQL reads
small tables whole whatever indexes there are, and is told not to: it still does where no index serves.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.engine import Engine

from muster.base.clock import system_clock
from muster.bus.memory import MemoryBus
from muster.domain.messages import Beat, Heartbeat, Report
from muster.domain.placement import Demand, Search, Strategy
from muster.domain.reports import GuestState, ServerReport
from muster.domain.server_listing import ServerQuery
from muster.domain.servers import Asked, Server, Verb
from muster.services.dispatcher import Dispatcher
from muster.services.host_reports import HostReports
from muster.services.servers import Servers
from muster.store import hosts as host_store
from muster.store.engine import Connection, Database

from .compute_cloud import add_hosts, add_server
from .workers import ADMIN, Worker, a_network, a_server, workers

# Tables that grow with servers or hosts.
GROWING = frozenset(
    {"addresses", "hosts", "instance_actions", "port_security_groups", "ports", "server_tags", "servers", "tags"}
)
# How each database says that it reads a table from end to end.
_WHOLE = {
    "sqlite": re.compile(r"\bSCAN (\w+)(?! USING| VIRTUAL)"),
    "postgresql": re.compile(r"\bSeq Scan on (\w+)"),
}
# How SQLite says that it reads all that is of one project, network or image; a page of them it reads in an order.
_ALL_OF_ONE = re.compile(
    r"SEARCH (\w+) USING INDEX (?!ix_servers_project_created)\w+ \((?:project|network|image)_id=\?\)"
)
# How SQLite says that it reads rows whose numbers it has, whatever other index it compares them with.
_BY_ROW = re.compile(r"SEARCH servers USING (INTEGER PRIMARY KEY|INDEX ix_servers_host_live) \(.*rowid=\?\)")
_SORTS = re.compile(r"TEMP B-TREE|\bSort\b")
_QUERY = re.compile(r"(SELECT|UPDATE|DELETE)\b")


class Executed:
    """What was executed, with the values of the first time."""

    def __init__(self) -> None:
        self.statements: dict[str, Any] = {}

    def note(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if _QUERY.match(statement):
            self.statements.setdefault(statement, parameters[0] if many else parameters)


@contextmanager
def executed() -> Iterator[Executed]:
    found = Executed()
    event.listen(Engine, "before_cursor_execute", found.note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", found.note)


async def plan(connection: Connection, statement: str, parameters: Any) -> str:
    if connection.dialect.name == "sqlite":
        rows = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return "\n".join(row.detail for row in rows)
    rows = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
    return "\n".join(rows.scalars())


async def read_whole(database: Database, found: Executed) -> list[tuple[str, str]]:
    """Of these statements those that read a growing table from end to end, each with its plan."""
    slow = []
    async with database.hold() as connection:
        await without_reading_whole(connection)
        for statement, parameters in found.statements.items():
            said = await plan(connection, statement, parameters)
            if GROWING & set(_WHOLE[connection.dialect.name].findall(said)):
                slow.append((statement, said))
    return slow


async def without_reading_whole(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SET LOCAL enable_seqscan = off"))


async def in_order_of_an_index(connection: Connection) -> None:
    """Of a table with few rows PostgreSQL sorts those that it wants, rather than read them in an index's order."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        await connection.execute(text("SET LOCAL enable_sort = off"))


async def a_life(worker: Worker, network_id: str, bus: MemoryBus) -> None:
    """Servers are made, one alone and some together, reported, listed, shown, asked for by their host, deleted."""
    reads = Servers(worker.database)
    dispatcher = Dispatcher(worker.database, bus, system_clock)
    reports = HostReports(worker.database, bus, system_clock, dispatcher, worker.orders)
    [one] = await worker.creation.create([a_server("adm", network_id)])
    some = await worker.creation.create([a_server("adm", network_id) for _ in range(3)])
    for number, server in enumerate((one, *some)):
        await reports.take([running(server, number)])
    found = await reads.page(ServerQuery(project_id="adm", deleted=False, limit=3, sort=(("created_at", True),)))
    await reads.page(ServerQuery(deleted=False, limit=3, marker=found[-1].id))
    await reads.get(ADMIN, one.id)
    assert one.host_id
    await dispatcher.send_everything({one.host_id: 1}, why="hello")
    async with worker.database.read() as connection:
        seqs = await host_store.read_seqs(connection, [one.host_id])
    beats = tuple(Beat(host_id=host_id, desired_seq=seq, report_seq=0) for host_id, (seq, _) in seqs.items())
    await reports.take([Heartbeat(beats=beats, sent_at=time.time())])
    await worker.orders.ask(ADMIN, one.id, Asked(verb=Verb.DELETE), "req-2")
    await worker.orders.finish_all([await reads.get(ADMIN, one.id)])


def running(server: Server, number: int) -> Report:
    assert server.host_id
    seen = ServerReport(server_id=server.id, generation=1, state=GuestState.RUNNING)
    return Report(host_id=server.host_id, from_seq=number, to_seq=number + 1, everything=True, servers=(seen,))


async def asked_in_a_life(database: Database, folder: Path) -> Executed:
    """The statements of `a_life` on five hosts."""
    async with database.write() as connection:
        await add_hosts(connection, *(f"h{number}" for number in range(5)), now=time.time(), firewall=False)
    async with workers(database, folder, count=1) as [worker]:
        network_id = await a_network(worker)
        with executed() as found:
            await a_life(worker, network_id, MemoryBus())
    return found


async def test_no_table_that_grows_is_read_whole(database: Database, tmp_path: Path) -> None:
    found = await asked_in_a_life(database, tmp_path)
    asked = [sum(f" {table}" in statement for statement in found.statements) for table in GROWING]
    assert min(asked) > 0, "each of these tables was asked"
    assert await read_whole(database, found) == []


async def test_what_is_of_a_server_is_not_looked_for_in_all_of_its_project(database: Database, tmp_path: Path) -> None:
    """SQLite knows nothing about values: an index by project is as good for it as one by server. PostgreSQL knows."""
    found = await asked_in_a_life(database, tmp_path)
    async with database.hold() as connection:
        for statement, values in found.statements.items():
            said = await plan(connection, statement, values)
            if database.is_sqlite:
                assert not GROWING & set(_ALL_OF_ONE.findall(said)), f"{statement}\n{said}"


async def test_a_statement_without_an_index_is_noticed(database: Database) -> None:
    with executed() as found:
        async with database.read() as connection:
            await connection.execute(text("SELECT id FROM servers WHERE description = 'x'"))
    assert len(await read_whole(database, found)) == 1


@pytest.mark.parametrize("strategy", Strategy)
async def test_the_best_hosts_are_the_first_of_an_index(database: Database, strategy: Strategy) -> None:
    wanted = Search(count=2, least=Demand(vcpus=1, ram_mib=512, disk_gib=1, servers=1), availability_zone=None)
    with executed() as found:
        async with database.read() as connection:
            await host_store.search(connection, wanted, strategy, seen_after=0.0)
    [(statement, parameters)] = found.statements.items()
    async with database.hold() as connection:
        await without_reading_whole(connection)
        await in_order_of_an_index(connection)
        said = await plan(connection, statement, parameters)
    assert "ix_hosts_left" in said
    if strategy is Strategy.SPREAD:
        assert not _SORTS.search(said), said
    else:  # hosts that have as much left as each other are sorted by id, few at a time
        assert "RIGHT PART OF ORDER BY" in said or "Incremental Sort" in said, said


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ({"changes_since": 5.0}, "COVERING INDEX ix_servers_updated"),
        ({"patterns": {"name": "web"}}, "COVERING INDEX ix_servers_project_name"),
        ({"vm_states": ("error",)}, "COVERING INDEX ix_servers_unusual (vm_state=? AND project_id=?"),
        ({"vm_states": ("error", "stopped")}, "COVERING INDEX ix_servers_unusual (vm_state=? AND project_id=?"),
        ({"filters": {"image_id": ("i",)}}, "COVERING INDEX ix_servers_image_id"),
        ({"filters": {"host": ("h",)}}, "INDEX ix_servers_host_live"),
    ],
)
async def test_few_servers_of_a_project_are_found_without_the_others(
    database: Database, asked: dict[str, Any], index: str
) -> None:
    """SQLite would read all in the order of the page. PostgreSQL knows how many there are, but for patterns."""
    with executed() as found:
        await Servers(database).page(ServerQuery(project_id="p", interfaces=False, **asked))
    if not database.is_sqlite:
        assert len(found.statements) == (2 if "patterns" in asked else 1)
        return
    async with database.hold() as connection:
        looked, page = [await plan(connection, *statement) for statement in found.statements.items()]
    assert index in looked
    assert _BY_ROW.search(page)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_postgresql_looks_for_a_name_in_an_index_alone(database: Database) -> None:
    async with database.write() as connection:
        for number in range(500):
            await add_server(connection, str(number), name=f"web-{number}", description="x" * 500)
        await connection.execute(text("ANALYZE servers"))
    with executed() as found:
        query = ServerQuery(project_id="x", patterns={"name": "WEB-49"}, interfaces=False)
        page = await Servers(database).page(query)
    assert {server.name for server in page} == {"web-49", *(f"web-{number}" for number in range(490, 500))}
    look, listing = found.statements.items()
    async with database.hold() as connection:
        await without_reading_whole(connection)
        listed = await plan(connection, *listing)
        await in_order_of_an_index(connection)
        looked = await plan(connection, *look)
    assert "Index Only Scan using ix_servers_project_name" in looked
    assert re.search(r"ix_servers_project_name .*\n *Index Cond: .*name = ANY", listed), listed


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("states", [("error",), ("error", "stopped")])
async def test_postgresql_finds_few_of_a_status_by_their_index_whatever_states_it_plans_for(
    database: Database, states: tuple[str, ...]
) -> None:
    """In time it may make one plan for all values, which knows the index's condition by its words only."""
    async with database.write() as connection:
        for number in range(500):
            state = "error" if number == 2 else "active"
            await add_server(connection, str(number), description="x" * 500, vm_state=state)
        await connection.execute(text("ANALYZE servers"))
    with executed() as found:
        [_] = await Servers(database).page(ServerQuery(project_id="x", vm_states=states, interfaces=False))
    [(statement, parameters)] = found.statements.items()
    literals = ", ".join(f"ARRAY{value}" if isinstance(value, list) else repr(value) for value in parameters)
    async with database.hold() as connection:
        await connection.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.exec_driver_sql(f"PREPARE listed AS {statement}")
        said = (await connection.exec_driver_sql(f"EXPLAIN EXECUTE listed ({literals})")).scalars().all()
        await connection.exec_driver_sql("DEALLOCATE listed")
    assert "ix_servers_unusual" in "\n".join(said)

"""PostgreSQL goes away and comes back: whoever asks waits for a while, nobody for ever, and nobody storms it."""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from benchmarks.free_ports import free_port
from muster.base.errors import Away, Invalid, Transient
from muster.services.redecide import redeciding
from muster.store import usages
from muster.store.engine import Database
from muster.store.postgresql_settings import PostgresSettings
from tests.databases import make_tables
from tests.engines.fixtures import running
from tests.engines.postgres import PATIENT, Postgres
from tests.engines.proxy import Proxy

HANG_S = 300.0


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One on TCP."""
    with running("pg-tcp", partial(Postgres, port=free_port())) as cluster:
        yield cluster


@pytest.fixture
async def proxy(server: Postgres) -> AsyncIterator[Proxy]:
    assert server.port is not None
    link = Proxy(server.port)
    await link.start()
    yield link
    await link.close()


@pytest.fixture
async def url(server: Postgres) -> str:
    database = Database(found := await server.create_database())
    await make_tables(database)
    await database.close()
    return found


async def _read(database: Database) -> None:
    async with database.read() as connection:
        await usages.read(connection, ["p"])


async def _add(database: Database) -> None:
    async def once() -> None:
        async with database.write() as connection:
            await usages.add(connection, {("p", "port"): 1})

    await redeciding("test", once)


async def _count(database: Database) -> int:
    async with database.read() as connection:
        return (await usages.read(connection, ["p"])).get(("p", "port"), 0)


@pytest.mark.parametrize("how", [signal.SIGQUIT, signal.SIGKILL])
async def test_a_restart_costs_a_delay_and_no_error(server: Postgres, url: str, how: signal.Signals) -> None:
    """Neither to those in the middle of something, nor to those who come while it is away, nor to the first after."""
    database = Database(f"{url}?{PATIENT}")
    async with asyncio.timeout(HANG_S):
        await asyncio.gather(*(_read(database) for _ in range(30)))  # all connections are there
        asked = [asyncio.create_task(_add(database)) for _ in range(20)]
        await asyncio.sleep(0.01)
        await asyncio.to_thread(server.end, how)
        asked += [asyncio.create_task(_add(database)) for _ in range(20)]
        reading = [asyncio.create_task(_read(database)) for _ in range(20)]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in reading)
        await asyncio.to_thread(server.launch)
        await asyncio.gather(*asked, *reading)
        assert await _count(database) == 40
        await asyncio.gather(*(_read(database) for _ in range(30)))
    await database.close()


async def test_a_connection_that_breaks_while_it_is_made_ready_is_made_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, broken = asyncpg.Connection.set_type_codec, []

    async def breaks_once(self: asyncpg.Connection, *arguments: Any, **options: Any) -> None:
        if not broken:
            broken.append(self)
            self.terminate()
        await prepare(self, *arguments, **options)

    monkeypatch.setattr(asyncpg.Connection, "set_type_codec", breaks_once)
    database = Database(url)
    async with asyncio.timeout(HANG_S):
        await _add(database)
        assert await _count(database) == 1
    assert broken
    await database.close()


AT_A_LOSS = "cannot switch to state 15; another operation (2) is in progress"


async def test_a_connection_whose_server_is_just_ending_is_gone(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver has the server's error and not yet the end of the connection: it can neither go on nor roll back."""
    database = Database(url)
    await _add(database)
    lost = []

    async def rollback(self: asyncpg.transaction.Transaction) -> None:
        lost.append(self)
        asyncio.get_running_loop().call_later(0.1, self._connection.terminate)
        raise asyncpg.InternalClientError(AT_A_LOSS)

    async def fails() -> None:
        async with database.write() as connection:
            await usages.add(connection, {("p", "port"): 1})
            raise KeyError("of ours")

    with monkeypatch.context() as patch:
        patch.setattr(asyncpg.transaction.Transaction, "rollback", rollback)
        with pytest.raises(Away):
            await fails()
    assert lost
    async with asyncio.timeout(HANG_S):
        await _add(database)
        assert await _count(database) == 2
    await database.close()


async def test_a_first_connection_whose_server_is_just_ending_is_made_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLAlchemy's first questions to a server met its last words, as in a failover: that failed a request."""
    prepare, lost = asyncpg.Connection.prepare, []

    async def at_a_loss_once(self: asyncpg.Connection, *arguments: Any, **options: Any) -> Any:
        if not lost:
            lost.append(self)
            raise asyncpg.InternalClientError(AT_A_LOSS)
        return await prepare(self, *arguments, **options)

    monkeypatch.setattr(asyncpg.Connection, "prepare", at_a_loss_once)
    database = Database(f"{url}?{PATIENT}")
    async with asyncio.timeout(HANG_S):
        await _read(database)
    assert lost
    await database.close()


async def test_a_driver_at_a_loss_on_a_connection_that_stands_is_no_absence(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake shows as one, at once, and not as a database that is waited for; its connection is used no more."""
    database = Database(url)
    await _add(database)
    used = []

    async def fails(self: asyncpg.Connection, *_: object, **__: object) -> None:
        used.append(self)
        raise asyncpg.InternalClientError("no codec")

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(asyncpg.Connection, "prepare", fails)
        with pytest.raises(DBAPIError):
            async with database.write() as connection:
                await connection.execute(text("SELECT 1 AS never_prepared"))
    assert used
    assert not logs
    await _add(database)
    assert used[0].is_closed()
    await database.close()


async def test_the_log_says_why_there_is_no_connection() -> None:
    """Each reason once, however long the database stays away."""
    database = Database(f"postgresql://muster:verysecret@127.0.0.1:{free_port()}/muster", patience_s=2.0)
    with capture_logs() as logs, pytest.raises(Transient):
        await _read(database)
    await database.close()
    [reason] = [entry["error"] for entry in logs if entry["action"] == "store.connect"]
    assert "ConnectionRefusedError" in reason
    assert "verysecret" not in reason


async def test_of_dead_connections_in_the_pool_none_is_given_out(server: Postgres, url: str) -> None:
    database = Database(f"{url}?{PATIENT}")
    async with asyncio.timeout(HANG_S):
        await asyncio.gather(*(_read(database) for _ in range(30)))
        await asyncio.to_thread(server.end, signal.SIGQUIT)
        await asyncio.to_thread(server.launch)
        async with database.write() as connection:  # no redeciding: not even the first one fails
            await usages.add(connection, {("p", "port"): 1})
    await database.close()


async def test_who_waits_is_told_after_a_while_and_who_comes_later_at_once(server: Postgres, url: str) -> None:
    database = Database(url, patience_s=1.0, connect_s=60.0)
    await _read(database)
    await asyncio.to_thread(server.end, signal.SIGQUIT)
    try:
        for expected_s in (1.0, 0.0):
            began = time.monotonic()
            outcomes = await asyncio.gather(*(_add(database) for _ in range(50)), return_exceptions=True)
            assert all(isinstance(one, Transient) and one.retry_after_s > 0 for one in outcomes)
            assert expected_s - 0.1 <= time.monotonic() - began
        assert min([await _refused_s(database) for _ in range(10)]) < 0.5, "at once, if the machine lets it"
    finally:
        with capture_logs() as logs:
            await asyncio.to_thread(server.launch)
            await _add_at_last(database)  # somebody still looks for it
    assert [line["log_level"] for line in logs if line["action"] == "store.back"] == ["warning"], "as that it is away"
    await database.close()


async def _add_at_last(database: Database) -> None:
    async with asyncio.timeout(HANG_S):
        while True:
            try:
                await _add(database)
            except Transient:
                await asyncio.sleep(0.1)
            else:
                break


async def _refused_s(database: Database) -> float:
    began = time.monotonic()
    with pytest.raises(Transient):
        await _read(database)
    return time.monotonic() - began


async def test_nobody_storms_a_database_that_is_away(url: str, proxy: Proxy) -> None:
    away = Database(url.replace(str(_port(url)), str(free_port())), patience_s=2.0)
    looks = 0
    look = away._presence._look

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await look()

    away._presence._look = counted
    outcomes = await asyncio.gather(*(_read(away) for _ in range(200)), return_exceptions=True)
    assert {type(one) for one in outcomes} == {Transient}
    assert 2 <= looks <= 30
    await away.close()


def _port(url: str) -> int:
    found = re.search(r":(\d+)/", url)
    assert found is not None
    return int(found[1])


async def test_more_at_once_than_connections_wait_and_are_then_told(url: str) -> None:
    database = Database(f"{url}?{PATIENT}", connections=2, queue_s=0.3)
    async with database.read(), database.read():
        with pytest.raises(Transient, match="too much to do"):
            await _read(database)
    await _read(database)
    await database.close()


async def test_a_statement_that_takes_too_long_is_ended(url: str) -> None:
    database = Database(url, statement_s=3.0)
    with pytest.raises(Transient, match="too much to do"):
        async with database.write() as connection:
            await connection.execute(text("SELECT pg_sleep(30)"))
    await _read(database)
    await database.close()


async def test_both_ends_notice_a_silent_connection(url: str) -> None:
    """What a firewall forgot: by probes while idle, and by what is not acknowledged."""
    database = Database(url, silence_s=8)
    settings = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
    async with database.read() as connection:
        shown = [(await connection.execute(text(f"SHOW {name}"))).scalar_one() for name in settings]
        raw = (await connection.get_raw_connection()).driver_connection
        link = raw._transport.get_extra_info("socket")  # type: ignore[union-attr]
        there = [link.getsockopt(6, option) for option in (4, 5, 6, 18)]  # TCP_KEEPIDLE, INTVL, CNT, USER_TIMEOUT
        assert link.getsockopt(1, 9) == 1  # SO_KEEPALIVE
    assert shown == ["2", "2", "3", "8000"]
    assert there == [2, 2, 3, 8_000]
    await database.close()


async def test_a_server_that_does_not_answer_is_left_for_the_next(url: str, proxy: Proxy) -> None:
    proxy.silence()
    both = url.replace(f":{_port(url)}/", f":{proxy.port},127.0.0.1:{_port(url)}/")
    database = Database(both, connect_s=10.0)
    began = time.monotonic()
    await _add(database)
    assert time.monotonic() - began >= 10.0
    assert proxy.links_made == 1
    await asyncio.gather(*(_read(database) for _ in range(20)))
    assert proxy.links_made == 1  # the one that answered is asked first from then on
    await database.close()


async def _takes_no_writes(server: Postgres) -> None:
    """A connection that is made after the server has told all others of the change begins with it."""
    async with asyncio.timeout(HANG_S):
        while True:
            fresh = await server.connect("postgres")
            try:
                if await fresh.fetchval("SHOW default_transaction_read_only") == "on":
                    return
            finally:
                await fresh.close()


async def test_a_server_that_takes_no_writes_any_more_is_left(server: Postgres, url: str) -> None:
    """As the old primary after a failover: its connections stay, and their next write is refused."""
    database = Database(f"{url}?{PATIENT}")
    await asyncio.gather(*(_add(database) for _ in range(10)))
    outside = await server.connect("postgres")
    try:
        await outside.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await outside.execute("SELECT pg_reload_conf()")
        await _takes_no_writes(server)
        adding = [asyncio.create_task(_add(database)) for _ in range(10)]
        await asyncio.sleep(0.5)
        assert not any(task.done() for task in adding)
    finally:
        await outside.execute("SET default_transaction_read_only = off")
        await outside.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await outside.execute("SELECT pg_reload_conf()")
        await outside.close()
    async with asyncio.timeout(HANG_S):
        await asyncio.gather(*adding)
    assert await _count(database) == 20
    await database.close()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda url: url + "?speed=9", Invalid),
        (lambda url: url + "?connections=many", Invalid),
        (lambda url: url.replace("postgresql", "mysql"), Invalid),
    ],
)
def test_a_url_that_is_not_right_is_refused(url: str, change: Callable[[str], str], error: type[Exception]) -> None:
    with pytest.raises(error):
        Database(change(url))


async def test_a_database_that_does_not_exist_is_not_waited_for(url: str) -> None:
    database = Database(f"{url}_not_there?{PATIENT}")
    async with asyncio.timeout(120):  # which is less than the patience with one that is away
        with pytest.raises(Transient, match="refuses"):
            await _read(database)
    await database.close()


async def test_options_of_the_url_hold(url: str) -> None:
    database = Database(url + "?statement_s=7&stopped_s=4&connections=3")
    async with database.read() as connection:
        assert (await connection.execute(text("SHOW statement_timeout"))).scalar_one() == "7s"
        assert (await connection.execute(text("SHOW idle_in_transaction_session_timeout"))).scalar_one() == "4s"
    await database.close()


async def test_what_breaks_off_again_and_again_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muster.services.redecide._PATIENCE_S", 0.3)
    rounds = 0

    async def breaks() -> None:
        nonlocal rounds
        rounds += 1
        raise Away("again")

    work: Callable[[], Awaitable[None]] = breaks
    with pytest.raises(Away):
        await redeciding("test", work)
    assert 2 <= rounds <= 20


def test_every_option_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "subsystems" / "store.md").read_text()
    missing = [name for name in PostgresSettings.__struct_fields__ if name != "dsns" and f"| `{name}` |" not in text]
    assert not missing

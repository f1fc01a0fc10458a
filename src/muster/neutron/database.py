"""Short transactions of the driver's own, beside those of Neutron, in the same database.

Connections of its own: a request that waits for an allocation has one of Neutron's already, and if both came from one
pool, enough of them would wait for each other for ever. The server ends a transaction whose worker says nothing for
`lease_s`: a worker that is stopped in the middle of an allocation stands in nobody's way for longer. And a worker gives
up a connection on which no answer comes, as where a firewall has forgotten it: a whole batch waits for that answer.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from oslo_db import exception as db_exc
from oslo_db.sqlalchemy import exc_filters
from sqlalchemy import create_engine, event
from sqlalchemy import exc as sql_exc
from sqlalchemy.engine import Connection, Engine, make_url

from muster.base.errors import Stale, Transient

LOG = logging.getLogger(__name__)

Result = TypeVar("Result")

_TRIES = 8
_PAUSE_S = 0.02
_AGAIN = (Stale, db_exc.DBDeadlock, db_exc.DBDuplicateEntry, db_exc.DBConnectionError)
# oslo.db lets operational errors that it does not know through, PostgreSQL's of a lock that was waited for too long
# among them. SQLAlchemy's TimeoutError: no connection became free.
_AWAY = (db_exc.DBError, sql_exc.OperationalError, sql_exc.TimeoutError)


class Database:
    """`url` is SQLAlchemy's, with its password; `wait_s` is how long a statement may wait for a row."""

    def __init__(self, url: str, lease_s: int, wait_s: int) -> None:
        self._url = url
        self._lease_s = lease_s
        self._wait_s = wait_s
        self._guard = threading.Lock()
        self._engine: Engine | None = None
        self._process = 0

    def run(self, work: Callable[[Connection], Result], isolation_level: str | None = None) -> Result:
        """What `work` returns, committed. It is run again when others changed what it had read, for `wait_s` at most.

        Raises what `work` raises, and Transient when the database is away or contended beyond reason.
        """
        deadline = time.monotonic() + self._wait_s  # for MySQL a row that is locked too long is a deadlock like others
        for attempt in range(_TRIES):
            try:
                engine = self._started()
                if isolation_level is not None:
                    engine = engine.execution_options(isolation_level=isolation_level)
                with engine.begin() as connection:
                    return work(connection)
            except _AGAIN as error:
                LOG.debug("Allocation is decided again, %s: %s", attempt + 1, error)
                trouble = error
                # A connection that was dead is no long wait: all of the pool is, and a new one may be alive.
                dead = attempt == 0 and isinstance(error, db_exc.DBConnectionError)
                if time.monotonic() > deadline and not dead:
                    break
                time.sleep(random.uniform(0, _PAUSE_S * 2**attempt))  # noqa: S311 - not a secret
            except _AWAY as error:
                raise Transient(f"The database does not answer: {error}") from error
        raise Transient(f"The database does not let an allocation through: {trouble}") from trouble

    def run_at_one_moment(self, work: Callable[[Connection], Result]) -> Result:
        """The same for work that only reads: all of it sees the database as it was when it began."""
        return self.run(work, isolation_level="REPEATABLE READ")

    def _started(self) -> Engine:
        with self._guard:
            if self._engine is None or self._process != os.getpid():  # uWSGI forks
                # No ping before and no rollback after each use: a round trip each. A connection that is gone shows in
                # the first statement, and the work begins again.
                # An allocation reads what is, not what was when its transaction began, and locks no gaps between rows.
                # Said to the engine: it puts a connection back to this after `run_at_one_moment`.
                engine = create_engine(
                    self._url,
                    isolation_level="READ COMMITTED",
                    connect_args=_patience(make_url(self._url).get_driver_name(), self._wait_s + self._lease_s),
                    pool_size=5,
                    max_overflow=20,
                    pool_use_lifo=True,
                    pool_reset_on_return=None,
                )
                exc_filters.register_engine(engine)
                event.listen(engine, "connect", self._prepare)
                self._engine, self._process = engine, os.getpid()
            return self._engine

    def _prepare(self, connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT version()")
        for statement in _settings(cursor.fetchone()[0], self._lease_s, self._wait_s):
            cursor.execute(statement)
        cursor.close()
        connection.commit()


def _patience(driver: str, silent_s: int) -> dict[str, int]:
    """How long a client waits for an answer. libpq knows no such time; there its kernel asks for the server's."""
    if driver in ("pymysql", "mysqldb"):
        return {"read_timeout": silent_s, "write_timeout": silent_s}
    if driver in ("psycopg2", "psycopg"):
        return {"keepalives_idle": silent_s, "tcp_user_timeout": 1000 * silent_s}
    return {}


def _settings(version: str, lease_s: int, wait_s: int) -> list[str]:
    if version.startswith("PostgreSQL"):
        return [
            f"SET idle_in_transaction_session_timeout = '{lease_s}s'",
            f"SET lock_timeout = '{wait_s}s'",
        ]
    silent = "idle_transaction_timeout" if "MariaDB" in version else "wait_timeout"
    return [f"SET SESSION {silent} = {lease_s}", f"SET SESSION innodb_lock_wait_timeout = {wait_s}"]

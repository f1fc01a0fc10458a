"""`muster-ipam`: status, check and migration of the IPAM driver's tables, from the command line.

Reads the same neutron.conf as the servers. Exit status: 0, all agrees or was made to agree; 1, something differs
(`check`, `--dry-run`); 2, it could not be done.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
from oslo_config import cfg
from oslo_db import exception as db_exc
from oslo_db import options as db_options
from sqlalchemy import exc as sql_exc
from sqlalchemy.engine import Connection

from muster.base.errors import MusterError, NotFound
from muster.neutron import maintenance, options, store
from muster.neutron.allocation import Ages
from muster.neutron.database import Database
from muster.neutron.maintenance import Difference, Report

COMMANDS = {
    "status": "how many addresses of each subnet are held, claimed, resting and free",
    "check": "compare with what Neutron's ports hold; exit status 1 if something differs",
    "adopt": "take over all subnets, and set right what differs: before and after changing to `muster`",
    "to-internal": "fill in the tables of Neutron's own driver: before and after changing back to `internal`",
}
_FILES = ["/etc/neutron/neutron.conf"]
_STATUS = ("subnet_id", "cidr", "ports", "held", "claimed", "resting", "free", "differs")
_INTERNAL = ("subnet_id", "cidr", "known", "lacking", "stale", "pools_differ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit status."""
    logging.getLogger("oslo_db").setLevel(logging.CRITICAL)  # it logs with its stack what it raises, and is told here
    try:
        return _run(_configuration(sys.argv[1:] if arguments is None else list(arguments)))
    except (MusterError, cfg.Error, db_exc.DBError, sql_exc.SQLAlchemyError) as error:
        if _lacks_tables(error):
            sys.stderr.write("The driver's tables are not there: run neutron-db-manage upgrade heads\n")
        sys.stderr.write(f"muster-ipam: {(str(error) or type(error).__name__).splitlines()[0]}\n")
        return 2


def _lacks_tables(error: Exception) -> bool:
    """Whether a table is not there. PostgreSQL says so in the words of any statement that cannot be meant."""
    cause = error.__cause__ if isinstance(error, MusterError) else error
    meant = getattr(cause, "inner_exception", cause)
    return isinstance(cause, db_exc.DBNonExistentTable) or isinstance(meant, sql_exc.ProgrammingError)


def _configuration(arguments: Sequence[str]) -> Any:
    conf = cfg.ConfigOpts()
    conf.register_opts(db_options.database_opts, "database")
    options.register(conf)
    lines = "; ".join(f"{name}: {what}" for name, what in COMMANDS.items())
    conf.register_cli_opts(
        [
            cfg.StrOpt("command", positional=True, choices=list(COMMANDS), help=lines),
            cfg.BoolOpt("json", default=False, help="For scripts: one JSON document on standard output."),
            cfg.BoolOpt("dry-run", default=False, help="Change nothing; show what `adopt` or `to-internal` would do."),
        ]
    )
    files = [name for name in _FILES if os.path.lexists(name)]
    conf(arguments, project="neutron", prog="muster-ipam", default_config_files=files)
    return conf


def _run(conf: Any) -> int:
    if not conf.database.connection:
        sys.stderr.write("muster-ipam: no [database] connection; name neutron.conf with --config-file\n")
        return 2
    if conf.database.connection.startswith("sqlite"):
        sys.stderr.write("muster-ipam: not for SQLite, but for MySQL, MariaDB and PostgreSQL\n")
        return 2
    database = Database(conf.database.connection, conf.muster_ipam.lease, conf.muster_ipam.lock_timeout)
    subnet_ids = database.run(store.neutron_subnet_ids)
    back = conf.command == "to-internal"
    look: Callable[[Connection, str], Any] = maintenance.look_at_internal if back else maintenance.look
    before = _each(database.run_at_one_moment, subnet_ids, look, "looked at")
    changes = conf.command in ("adopt", "to-internal") and not conf.dry_run
    after = before
    if changes:
        differing = [one.subnet_id for one in before if one.differs]
        _each(database.run, differing, _change(conf, back=back), "set right")
        if not back:
            database.run(maintenance.forget_deleted)
        after = _each(database.run_at_one_moment, subnet_ids, look, "looked at again")
    _show(conf, before, after)
    wrong = any(one.differs for one in after)
    return 1 if wrong and (conf.command != "status") else 0


def _change(conf: Any, *, back: bool) -> Callable[[Connection, str], None]:
    if back:
        return maintenance.fill_internal
    ages = Ages(conf.muster_ipam.claim_age, conf.muster_ipam.promise_age)
    return lambda connection, subnet_id: maintenance.agree(connection, subnet_id, time.time(), ages)


def _each(
    run: Callable[[Callable[[Connection], Any]], Any],
    subnet_ids: Sequence[str],
    work: Callable[[Connection, str], Any],
    what: str,
) -> list[Any]:
    """The results of one transaction per subnet; subnets deleted meanwhile are left out."""
    results = []
    for subnet_id in _progress(subnet_ids, what):
        with suppress(NotFound):
            results.append(run(partial(_of_subnet, work, subnet_id)))
    return results


def _of_subnet(work: Callable[[Connection, str], Any], subnet_id: str, connection: Connection) -> Any:
    return work(connection, subnet_id)


def _progress(items: Sequence[str], what: str) -> Iterator[str]:
    shown = sys.stderr.isatty()
    for index, item in enumerate(items, 1):
        yield item
        if shown:
            sys.stderr.write(f"\r{index} of {len(items)} subnets {what}" + ("\n" if index == len(items) else ""))


def _show(conf: Any, before: Sequence[Report | Difference], after: Sequence[Report | Difference]) -> None:
    if conf.json:
        document = {
            "command": conf.command,
            "dry_run": conf.dry_run,
            "differed": sum(one.differs for one in before),
            "differ": sum(one.differs for one in after),
            "subnets": [{**msgspec.to_builtins(one), "differs": one.differs} for one in after],
        }
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return
    rows = after if conf.command == "status" or conf.dry_run else [one for one in after if one.differs]
    if rows:
        columns = _INTERNAL if conf.command == "to-internal" else _STATUS
        _table(columns, [[_cell(one, name) for name in columns] for one in rows])
    did = f"; {sum(one.differs for one in before)} differed before" if after is not before else ""
    sys.stdout.write(f"{len(after)} subnets, {sum(one.differs for one in after)} differ{did}\n")


def _cell(one: Report | Difference, name: str) -> str:
    if name == "differs" and isinstance(one, Report):
        said = [
            "" if one.known else "not taken over yet",
            f"{len(one.missing)} unknown" if one.known and one.missing else "",
            f"{len(one.orphaned)} without a port" if one.orphaned else "",
            "pools" if one.pools_differ else "",
        ]
        return ", ".join(word for word in said if word) or "-"
    value = getattr(one, name)
    return str(len(value) if isinstance(value, tuple) else value)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[index]) for row in [columns, *rows]) for index in range(len(columns))]
    for row in [columns, *rows]:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


if __name__ == "__main__":
    sys.exit(main())

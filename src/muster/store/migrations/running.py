"""Runs Alembic on a connection that is open already. Blocking: call it through `connection.run_sync`."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from muster.store.tables import metadata

_HERE = Path(__file__).parent


def config(connection: Connection | None = None, *, batch: bool = False) -> Config:
    """Alembic's configuration: this folder, and the connection to use."""
    made = Config()
    made.set_main_option("script_location", str(_HERE).replace("%", "%%"))
    made.set_main_option("path_separator", "os")
    made.set_main_option("file_template", "%%(slug)s")
    made.attributes["connection"] = connection
    made.attributes["batch"] = batch
    return made


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run what is missing up to `revision`, in the transaction that the connection is in."""
    command.upgrade(config(connection), revision)


def revisions() -> list[str]:
    """All revisions, oldest first."""
    script = ScriptDirectory.from_config(config())
    return [one.revision for one in reversed(list(script.walk_revisions()))]


def differences(connection: Connection) -> list[Any]:
    """What Alembic would change to make the database what the tables say; nothing if it is."""
    options = {"compare_type": True, "compare_server_default": True, "include_object": _is_a_matter_of_alembic}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def _is_a_matter_of_alembic(item: Any, _name: str | None, _type: str, reflected: bool, _counterpart: object) -> bool:
    """Not the keys that a database is meant to keep otherwise (`store.references`)."""
    return reflected or getattr(item, "_ddl_if", None) is None

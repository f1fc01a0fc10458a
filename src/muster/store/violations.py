"""Which constraint a database refused: drivers say it in their own ways, the rest of Muster gets its name."""

import re
from typing import Any

from sqlalchemy import ForeignKeyConstraint, Index, MetaData, PrimaryKeyConstraint, UniqueConstraint
from sqlalchemy.exc import IntegrityError

FOREIGN_KEY = "foreign_key"
UNKNOWN = "unknown"

_SQLITE_UNIQUE = re.compile(r"UNIQUE constraint failed: (.+)$")
_SQLITE_INDEX = re.compile(r"index '(.+)'")
_SQLITE_CHECK = re.compile(r"CHECK constraint failed: (.+)$")


def violated_constraint(error: IntegrityError, metadata: MetaData) -> str:
    """The name of the constraint; FOREIGN_KEY for any foreign key; UNKNOWN if the driver does not tell."""
    name = _postgres_name(error.orig)
    if name is not None:
        return FOREIGN_KEY if name.startswith("fk_") else name
    return _sqlite_name(str(error.orig), metadata)


def _postgres_name(original: Any) -> str | None:
    cause = getattr(original, "__cause__", None)
    name = getattr(cause, "constraint_name", None)
    return name if isinstance(name, str) else None


def _sqlite_name(text: str, metadata: MetaData) -> str:
    if "FOREIGN KEY" in text:
        return FOREIGN_KEY
    for pattern in (_SQLITE_INDEX, _SQLITE_CHECK):
        if match := pattern.search(text):
            return match[1]
    if not (match := _SQLITE_UNIQUE.search(text)):
        return UNKNOWN
    columns = [part.strip().partition(".") for part in match[1].split(",")]
    table = metadata.tables[columns[0][0]]
    names = [column for _, _, column in columns]
    for constraint in [*table.constraints, *table.indexes]:
        if isinstance(constraint, ForeignKeyConstraint):
            continue
        if isinstance(constraint, UniqueConstraint | PrimaryKeyConstraint | Index):
            found = [column.name for column in constraint.columns]
            if found == names:
                return str(constraint.name)
    return UNKNOWN

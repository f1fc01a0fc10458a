"""What a database's refusal means to a user of identity: a name that is taken, or something that is gone."""

from collections.abc import Iterator
from contextlib import contextmanager

from muster.base.errors import Conflict, MusterError, NotFound
from muster.store.engine import Violation
from muster.store.violations import FOREIGN_KEY


@contextmanager
def refusing(kind: str, name: object = None, *, gone: MusterError | None = None) -> Iterator[None]:
    """Around a transaction: turn a Violation into Conflict for a taken name, or into `gone` for a foreign key."""
    try:
        yield
    except Violation as error:
        if error.constraint == FOREIGN_KEY:
            raise gone or NotFound(f"Could not find what the {kind} refers to.") from error
        found = f" with name {name}" if isinstance(name, str) else ""
        message = f"Conflict occurred attempting to store {kind} - Duplicate entry found{found}."
        raise Conflict(message, code="identity.duplicate") from error

"""Foreign keys that PostgreSQL checks once per statement: for tables whose rows come and go by the thousand.

Its own look up what each row refers to, one row after the other, and cost more than the insertion. Here a trigger takes
all rows of a statement together. The promise is the same: whatever rows are committed, in whatever order and by
whomever, what they refer to is there. For that each side takes the locks that PostgreSQL's own keys take: who writes a
reference shares the row it refers to (FOR KEY SHARE) until its transaction ends, so whoever removes that row waits for
it, and then looks, in a statement of its own, at what has been committed meanwhile. That look is as new as that only
under READ COMMITTED; a removal under any other isolation is refused. SQLite checks a plain foreign key.

A violation looks like that of a foreign key, and has its name.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import DDL, ForeignKeyConstraint, Table, event

from muster.store.metadata import metadata

_NAME = "fk_{child}_{column}"
_STATEMENTS = (
    # Always by the index of what is referred to: a plan is kept, and may have been made when that table was small.
    """
CREATE FUNCTION {name}_refers() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    named bigint;
    there bigint;
BEGIN
    SELECT count(DISTINCT {column}) INTO named FROM fresh;
    IF named > 0 THEN
        PERFORM 1 FROM {parent} WHERE id IN (SELECT {column} FROM fresh) ORDER BY id FOR KEY SHARE;
        GET DIAGNOSTICS there = ROW_COUNT;
        IF there < named THEN
            RAISE EXCEPTION 'a row of {child} refers to nothing in {parent} by {column}'
            USING ERRCODE = 'foreign_key_violation', CONSTRAINT = '{name}', TABLE = '{child}';
        END IF;
    END IF;
    RETURN NULL;
END $$
""",
    """
CREATE FUNCTION {name}_is_referred_to() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        RAISE EXCEPTION 'an id of {parent} does not change'
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = '{name}', TABLE = '{child}';
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'rows of {parent} are removed under READ COMMITTED only'
        USING ERRCODE = 'feature_not_supported';
    END IF;
    PERFORM 1 FROM {child} WHERE {column} IN (SELECT id FROM gone) LIMIT 1 FOR KEY SHARE OF {child};
    IF FOUND THEN
        RAISE EXCEPTION 'a row of {child} refers to a removed one of {parent} by {column}'
        USING ERRCODE = 'foreign_key_violation', CONSTRAINT = '{name}', TABLE = '{child}';
    END IF;
    RETURN NULL;
END $$
""",
    """
CREATE TRIGGER {name}_inserted AFTER INSERT ON {child} REFERENCING NEW TABLE AS fresh
FOR EACH STATEMENT EXECUTE FUNCTION {name}_refers()
""",
    """
CREATE TRIGGER {name}_updated AFTER UPDATE ON {child} REFERENCING NEW TABLE AS fresh
FOR EACH STATEMENT EXECUTE FUNCTION {name}_refers()
""",
    """
CREATE TRIGGER {name}_removed AFTER DELETE ON {parent} REFERENCING OLD TABLE AS gone
FOR EACH STATEMENT EXECUTE FUNCTION {name}_is_referred_to()
""",
    """
CREATE TRIGGER {name}_renamed BEFORE UPDATE OF id ON {parent}
FOR EACH ROW WHEN (OLD.id IS DISTINCT FROM NEW.id) EXECUTE FUNCTION {name}_is_referred_to()
""",
)


def refer(child: Table, column: str, parent: str) -> None:
    """`column` of `child` holds an `id` of the table `parent`, or nothing."""
    child.append_constraint(ForeignKeyConstraint([column], [f"{parent}.id"]).ddl_if(dialect="sqlite"))
    for statement in statements(child.name, column, parent):
        # After all tables: some are made before those that they refer to.
        made: Any = DDL  # which SQLAlchemy gives no types
        event.listen(metadata, "after_create", made(statement).execute_if(dialect="postgresql"))


def statements(child: str, column: str, parent: str) -> Sequence[str]:
    """What makes PostgreSQL keep such a reference."""
    names = {"name": _NAME.format(child=child, column=column), "child": child, "column": column, "parent": parent}
    return [statement.strip().format(**names) for statement in _STATEMENTS]

"""References of addresses that PostgreSQL checks per statement (see store.references)."""

import sqlalchemy as sa
from alembic import op

revision = "bee18e555933"
down_revision = "3ab4338a0213"
branch_labels = None
depends_on = None

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


def upgrade() -> None:
    """Bring a database from the revision before to this one. SQLite keeps its foreign keys."""
    if op.get_context().dialect.name == "sqlite":
        return
    for column, parent in (("subnet_id", "subnets"), ("port_id", "ports")):
        name = f"fk_addresses_{column}"
        op.drop_constraint(name, "addresses", type_="foreignkey")
        for statement in _STATEMENTS:
            op.execute(sa.text(statement.strip().format(name=name, child="addresses", column=column, parent=parent)))

"""Rows found by a list of values, which is one bound value: the same rows on every database, by an index."""

import pytest
from sqlalchemy import BigInteger, Column, String, Table, bindparam, delete, event, or_, select, update

from muster.store.columns import flag
from muster.store.dialects import Keyed, among
from muster.store.engine import metadata

TEXTS = (
    "",
    "it's",
    'a "quoted" one',
    "back\\slash",
    "{curly,brace}",
    "NULL",
    "null",
    "7",
    "é 漢 🦆",
    "a\nb",
    "%s :x ? $1",
)
NUMBERS = tuple(sign * number for number in (1, 7, 2**31, 2**53 + 1, 2**63 - 1) for sign in (1, -1))


@pytest.fixture
async def table(database):
    made = Table(
        "rows_by_list",
        metadata,
        Column("name", String(64), primary_key=True),
        Column("number", BigInteger, nullable=True, index=True),
        flag("good"),
    )
    try:
        async with database.write() as connection:
            await connection.run_sync(made.create)
            rows = [{"name": name, "number": None, "good": False} for name in TEXTS]
            rows += [{"name": f"number {number}", "number": number, "good": True} for number in NUMBERS]
            await connection.execute(made.insert(), rows)
        yield made
    finally:
        metadata.remove(made)


async def _found(database, column, condition):
    async with database.read() as connection:
        return (await connection.execute(select(column).where(condition))).scalars().all()


async def test_texts_and_numbers_are_found_as_they_are(database, table):
    for column, values in ((table.c.name, TEXTS), (table.c.number, NUMBERS)):
        for wanted in [(), *((value,) for value in values), values[:2], values]:
            assert sorted(await _found(database, column, among(column, wanted))) == sorted(wanted)
    assert await _found(database, table.c.number, among(table.c.number, [2**53, 2**53 + 2])) == []


async def test_truth_values(database, table):
    for wanted, count in (((), 0), ((True,), len(NUMBERS)), ((True, False), len(TEXTS) + len(NUMBERS))):
        assert len(await _found(database, table.c.name, among(table.c.good, wanted))) == count


async def test_none_is_no_value(database, table):
    for wanted, found in (([None], []), ([None, None], []), ([None, 7], [7])):
        assert await _found(database, table.c.number, among(table.c.number, wanted)) == found


async def test_a_row_is_found_once_however_often_it_is_asked_for(database, table):
    assert await _found(database, table.c.name, among(table.c.name, ["7", "7", "7", "NULL"])) in (
        ["7", "NULL"],
        ["NULL", "7"],
    )


async def test_more_values_than_one_statement_can_bind(database, table):
    wanted = [*TEXTS, *(f"nobody {number}" for number in range(40_000))]
    assert sorted(await _found(database, table.c.name, among(table.c.name, wanted))) == sorted(TEXTS)


async def test_rows_are_changed_and_deleted_by_conditions_together(database, table):
    either = or_(among(table.c.name, ["7", "null"]), among(table.c.number, [7, 1]))
    async with database.write() as connection:
        assert (await connection.execute(update(table).where(either, ~table.c.good).values(good=True))).rowcount == 2
        gone = delete(table).where(among(table.c.name, TEXTS) & table.c.good)
        assert (await connection.execute(gone)).rowcount == 2
        rest = delete(table).where(~among(table.c.name, TEXTS), table.c.number.is_not(None))
        assert (await connection.execute(rest)).rowcount == len(NUMBERS)


async def test_any_number_of_values_is_one_statement_by_the_index(database, table):
    seen = set()

    def look(_connection, _cursor, statement, *_rest):
        if statement.startswith("SELECT"):
            seen.add(statement)

    async with database.hold() as connection:  # settings last as long as its transaction
        event.listen(connection.sync_connection, "before_cursor_execute", look)
        for count in (0, 2, 3, len(TEXTS)):
            await connection.execute(select(table.c.good).where(among(table.c.name, TEXTS[:count])))
        [statement] = seen
        if not database.is_sqlite:
            await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            await connection.exec_driver_sql("SET LOCAL enable_bitmapscan = off")
        explain = "EXPLAIN QUERY PLAN " if database.is_sqlite else "EXPLAIN "
        bound = '["7", "NULL"]' if database.is_sqlite else ["7", "NULL"]
        plan = str((await connection.exec_driver_sql(explain + statement, (bound,))).all())
    assert ("USING INDEX" if database.is_sqlite else "Index Cond") in plan


async def test_a_statement_that_is_made_once_finds_what_is_asked_for_each_time(database, table):
    names = Keyed(table.c.name, lambda mine: select(table.c.name).where(mine))
    numbers = Keyed(
        table.c.number, lambda mine: select(table.c.number).where(mine, table.c.number > bindparam("above"))
    )
    async with database.read() as connection:
        for wanted in ((), ("7",), TEXTS[:2], {"7", "it's"}, TEXTS, ("nobody",)):
            found = (await connection.execute(*names(wanted))).scalars()
            assert sorted(found) == sorted(set(wanted) - {"nobody"})
        for above, expected in ((0, [7]), (7, [])):
            for wanted in ([7], [7, -7]):
                assert list((await connection.execute(*numbers(wanted, above=above))).scalars()) == expected


async def test_a_statement_that_is_made_once_changes_rows(database, table):
    rename = Keyed(table.c.name, lambda mine: update(table).where(mine).values(number=bindparam("new")))
    async with database.write() as connection:
        for wanted, new in ((["7"], 3), (["null", "NULL"], 4), ([], 5)):
            assert (await connection.execute(*rename(wanted, new=new))).rowcount == len(wanted)
        assert await _numbers(connection, table, ["7", "null", "NULL"]) == [3, 4, 4]


async def _numbers(connection, table, names):
    numbers = dict((await connection.execute(select(table.c.name, table.c.number))).all())
    return [numbers[name] for name in names]

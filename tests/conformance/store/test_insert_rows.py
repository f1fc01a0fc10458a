"""Rows inserted by the thousand, past SQLAlchemy's own way: the same rows on every database."""

import contextlib

import pytest
from sqlalchemy import Column, Integer, String, Table, select
from sqlalchemy.exc import DBAPIError

from muster.base.errors import Bug
from muster.store.columns import flag, moment
from muster.store.dialects import insert_rows
from muster.store.engine import Violation, metadata

_NAMES = ("name", "number", "good")


@pytest.fixture
async def table(database):
    made = Table(
        "rows_by_the_thousand",
        metadata,
        Column("name", String(20), primary_key=True),
        Column("number", Integer, nullable=False),
        flag("good"),
        moment("at", nullable=True),
    )
    try:
        async with database.write() as connection:
            await connection.run_sync(made.create)
        yield made
    finally:
        metadata.remove(made)


async def test_rows_are_there_with_their_values_and_types(database, table):
    rows = [(f"it's {number:05} %s :x ?", number, number % 2 == 0) for number in range(3_000)]
    async with database.write() as connection:
        await insert_rows(connection, table, _NAMES, rows)
        await insert_rows(connection, table, _NAMES, [("one", -1, True)])
    async with database.read() as connection:
        found = (await connection.execute(select(table).order_by(table.c.number))).all()
    assert [tuple(row) for row in found] == [("one", -1, True, None), *((*row, None) for row in rows)]


async def test_a_constraint_that_refuses_one_row_leaves_none(database, table):
    with pytest.raises(Violation) as caught:
        async with database.write() as connection:
            await insert_rows(connection, table, _NAMES, [("a", 1, True), ("b", 2, True), ("a", 3, False)])
    assert "rows_by_the_thousand" in caught.value.constraint
    async with database.read() as connection:
        assert (await connection.execute(select(table))).all() == []


async def test_columns_in_another_order_are_a_bug(database, table):
    async with database.write() as connection:
        with pytest.raises(Bug):
            await insert_rows(connection, table, ("number", "name", "good"), [(1, "a", True)])


async def test_a_text_that_is_too_long_is_not_cut(database, table):
    too_long = "x" * 21
    with contextlib.nullcontext() if database.is_sqlite else pytest.raises(DBAPIError):  # SQLite knows no lengths
        async with database.write() as connection:
            await insert_rows(connection, table, _NAMES, [(too_long, 1, True)])
    async with database.read() as connection:
        kept = (await connection.execute(select(table.c.name))).scalars().all()
    assert kept == ([too_long] if database.is_sqlite else [])


async def test_no_rows_are_no_statement(database, table):
    async with database.write() as connection:
        await insert_rows(connection, table, _NAMES, [])

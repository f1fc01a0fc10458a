"""The floor: the least that the same stack does for a request, for comparison.

A bare HTTP server (Starlette, uvicorn, msgspec) that puts one row per request into SQLite through the same
`store.engine.Database`, and answers when it is committed. No tokens, no quotas, no addresses, no placement, no hosts.
Three kinds, from the easiest to beat to the hardest:

    durable     a transaction per request, on the disk before the answer: what Muster promises, done one by one
    unsafe      a transaction per request that does not wait for the disk: a power failure may lose what was answered
    batched     what waits is one transaction, on the disk before the answers, through Muster's own coalescer
"""

import argparse
from collections.abc import Awaitable, Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from sqlalchemy import Column, MetaData, String, Table, Text, event, insert
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.serving import listening, serve
from muster.base.coalescer import Coalescer
from muster.base.ids import new_uuid
from muster.store.engine import Database

ROWS = Table("rows", MetaData(), Column("id", String(36), primary_key=True), Column("name", Text), Column("body", Text))

Row = dict[str, str]
Write = Callable[[Row], Awaitable[None]]


class Floor(StrEnum):
    """The kinds of floor."""

    DURABLE = "durable"
    UNSAFE = "unsafe"
    BATCHED = "batched"


class Draft(msgspec.Struct):
    """What is read of a request's body."""

    name: str = ""


class Body(msgspec.Struct):
    """`{"server": {...}}` or `{"port": {...}}`; the rest is kept as it came."""

    server: Draft | None = None
    port: Draft | None = None


def application(write: Write) -> Starlette:
    """One route for everything that is posted."""

    async def post(request: Request) -> Response:
        raw = await request.body()
        body = msgspec.json.decode(raw, type=Body)
        row = {"id": new_uuid(), "name": (body.server or body.port or Draft()).name, "body": raw.decode()}
        await write(row)
        answer = msgspec.json.encode({"server" if body.server else "port": {"id": row["id"], "name": row["name"]}})
        return Response(answer, status_code=202 if body.server else 201, media_type="application/json")

    return Starlette(routes=[Route("/{path:path}", post, methods=["POST"])])


def writer(kind: Floor, database: Database) -> Write:
    """How a row gets into the database."""

    async def one(row: Row) -> None:
        async with database.write() as connection:
            await connection.execute(insert(ROWS), row)

    async def many(batch: list[Row]) -> list[None]:
        async with database.write() as connection:
            await connection.execute(insert(ROWS), batch)
        return [None] * len(batch)

    if kind is not Floor.BATCHED:
        return one
    coalescer: Coalescer[Row, None] = Coalescer(many, name="floor")
    return coalescer.submit


def _do_not_wait_for_the_disk(dbapi_connection: Any, _record: object) -> None:
    cursor = dbapi_connection.cursor()
    cursor.execute("PRAGMA synchronous=OFF")
    cursor.close()


async def run(folder: Path, kind: Floor) -> None:
    """Serve until told to end."""
    database = Database(f"sqlite:///{folder / 'floor.db'}")
    if kind is Floor.UNSAFE:
        event.listen(database._writer.sync_engine, "connect", _do_not_wait_for_the_disk)
    async with database.write() as connection:
        await connection.run_sync(ROWS.metadata.create_all)
    try:
        await serve(application(writer(kind, database)), *listening())
    finally:
        await database.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kind", type=Floor, choices=list(Floor), default=Floor.DURABLE)
    chosen = parser.parse_args()
    uvloop.run(run(chosen.data, chosen.kind))

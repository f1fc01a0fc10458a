"""What a refusal must look like, by API; and whether it has changed anything."""

from collections.abc import Callable, Mapping
from typing import Any

import httpx
from sqlalchemy import func, literal, null, select, union_all

from muster.store.engine import Database
from muster.store.tables import metadata

# Hosts write what they report, and the outbox empties itself, whatever is asked meanwhile.
_MOVING = {"hosts", "outbox"}
# What hosts report changes rows of these, but their number only when somebody asks.
_REPORTED = {"servers", "instance_actions", "ports"}


def check_refusal(path: str, answer: httpx.Response) -> None:
    """The body of an answer of 400 or more is in the form of its API, and tells the status and a reason."""
    assert answer.headers["content-type"] == "application/json", (path, answer.text)
    body = answer.json()
    form = _keystone if answer.status_code == 401 else _FORMS[path.split("/")[1]]
    assert form(body, answer.status_code), (path, answer.status_code, answer.text)


def _keystone(body: Any, status: int) -> bool:
    """Also what Keystone's middleware says in front of the other APIs."""
    error = body["error"]
    return set(body) == {"error"} and set(error) == {"code", "message", "title"} and _says(error, status)


def _neutron(body: Any, status: int) -> bool:
    error = body["NeutronError"]
    is_whole = set(body) == {"NeutronError"} and set(error) == {"type", "message", "detail"}
    return is_whole and error["type"].isidentifier() and _says({**error, "code": status}, status)


def _glance(body: Any, status: int) -> bool:
    is_whole = set(body) == {"message", "code", "title"}
    return is_whole and body["code"] == f"{status} {body['title']}" and _says({**body, "code": status}, status)


def _nova(body: Any, status: int) -> bool:
    [(kind, fault)] = body.items()
    return kind.isidentifier() and set(fault) == {"code", "message"} and _says(fault, status)


def _says(error: Mapping[str, Any], status: int) -> bool:
    return error["code"] == status and isinstance(error["message"], str) and error["message"] != ""


_FORMS: Mapping[str, Callable[[Any, int], bool]] = {
    "identity": _keystone,
    "network": _neutron,
    "image": _glance,
    "compute": _nova,
}


async def fingerprint(database: Database) -> dict[str, tuple[int, float | None]]:
    """How many rows each table has, and when one was last changed. One query."""
    counts = [
        select(
            literal(table.name),
            func.count(),
            func.max(table.c.updated_at) if "updated_at" in table.c and table.name not in _REPORTED else null(),
        ).select_from(table)
        for table in metadata.sorted_tables
        if table.name not in _MOVING
    ]
    async with database.read() as connection:
        return {name: (count, changed) for name, count, changed in await connection.execute(union_all(*counts))}

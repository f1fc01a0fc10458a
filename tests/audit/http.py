"""Asks a cloud over plain HTTP, many requests at once, and tells an answer from a lost one."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

# How long a test waits for one answer before it calls the cloud hung.
ANSWER_S = 300.0


@dataclass(frozen=True)
class Answer:
    """What came back. `status` None: nothing, or not all of it (the cloud died meanwhile)."""

    status: int | None
    headers: dict[str, str]
    body: Any = None


LOST = Answer(None, {})
UNREACHED = Answer(0, {})  # no connection could be made: the request was never sent


async def ask(
    base_url: str,
    method: str,
    path: str,
    body: Any = None,
    *,
    token: str | None = None,
    version: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on a connection of its own; bytes travel as they are, anything else as JSON.

    Never raises for a cloud that is gone or goes.
    """
    where = urlsplit(base_url)
    try:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
    except OSError:
        return UNREACHED
    try:
        async with asyncio.timeout(ANSWER_S):
            extra = dict(headers or {})
            if token:
                extra["X-Auth-Token"] = token
            if version:
                extra["OpenStack-API-Version"] = f"compute {version}"
            writer.write(_request(where.netloc, method, path, body, extra))
            await writer.drain()
            return _answer(await reader.read())
    except (OSError, asyncio.IncompleteReadError):
        return LOST
    finally:
        writer.close()


def _request(host: str, method: str, path: str, body: Any, headers: Mapping[str, str]) -> bytes:
    plain = isinstance(body, bytes)
    content = body if plain else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Length: {len(content)}"]
    if content:
        lines.append(f"Content-Type: application/{'octet-stream' if plain else 'json'}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def _answer(data: bytes) -> Answer:
    head, found, content = data.partition(b"\r\n\r\n")
    if not found:
        return LOST
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    if len(content) < int(headers.get("content-length", "0")):
        return LOST
    return Answer(int(first.split()[1]), headers, json.loads(content) if content else None)


async def log_in(base_url: str, password: str) -> str:
    """A token of the administrator for his own project."""
    user = {"name": "admin", "domain": {"id": "default"}, "password": password}
    body = {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": "admin", "domain": {"id": "default"}}},
        }
    }
    answer = await ask(base_url, "POST", "/identity/v3/auth/tokens", body)
    assert answer.status == 201, answer
    return answer.headers["x-subject-token"]


async def servers(base_url: str, token: str) -> list[dict[str, Any]]:
    """All servers in full, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        marker = f"&marker={found[-1]['id']}" if found else ""
        answer = await ask(base_url, "GET", f"/compute/v2.1/servers/detail?limit=1000{marker}", token=token)
        assert answer.status == 200, answer
        found += answer.body["servers"]
        if len(answer.body["servers"]) < 1000:
            return found

"""Responses: JSON encoded once, sent as they are."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from starlette.types import Send

_encoder = msgspec.json.Encoder()

JSON = "application/json"


class Response:
    """A whole response. `value` is anything msgspec can encode; None means no body."""

    def __init__(self, value: Any = None, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.body = b"" if value is None else _encoder.encode(value)
        self.headers: dict[str, str] = {} if value is None else {"Content-Type": JSON}
        self.headers.update(headers or {})

    async def send(self, send: Send) -> None:
        self.headers.setdefault("Content-Length", str(len(self.body)))
        await send({"type": "http.response.start", "status": self.status, "headers": _raw(self.headers)})
        await send({"type": "http.response.body", "body": self.body})


class StreamResponse(Response):
    """A response whose body comes in parts (an image's file)."""

    def __init__(self, parts: AsyncIterator[bytes], *, status: int = 200, headers: Mapping[str, str]) -> None:
        super().__init__(None, status=status, headers=headers)
        self._parts = parts

    async def send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": _raw(self.headers)})
        async for part in self._parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]

"""A request as a handler sees it: validated caller, path parameters, query, typed body."""

from collections.abc import AsyncIterator
from functools import cached_property
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.datastructures import Headers
from starlette.types import Receive, Scope

from muster.base.errors import Invalid, TooLarge
from muster.domain.context import Context

BODY_LIMIT = 1_048_576  # bytes; user_data alone may take 64 KiB, a bulk create of 1,000 ports about 200 KiB

Body = TypeVar("Body")


class Request:
    """One HTTP request. `context` is the validated caller (an anonymous one on public routes)."""

    def __init__(self, scope: Scope, receive: Receive, *, parameters: dict[str, str], context: Context) -> None:
        self.scope = scope
        self._receive = receive
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers = Headers(scope=scope)
        self.parameters = parameters
        self.context = context
        self.version: tuple[int, int] = (0, 0)  # the microversion, where the API has them
        self.request_id = ""

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """The query's pairs in order, repeated names kept, decoded. Raises Invalid for bytes that are not UTF-8."""
        try:
            return parse_qsl(
                self.scope["query_string"].decode("latin-1"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=500,
            )
        except (UnicodeDecodeError, ValueError) as error:
            raise Invalid("The query string is malformed") from error

    @cached_property
    def base_url(self) -> str:
        """Scheme, host and the prefix under which this API is served, as the client sees them."""
        scheme = self.headers.get("x-forwarded-proto", self.scope["scheme"])
        host = self.headers.get("host") or "{}:{}".format(*self.scope["server"])
        return f"{scheme}://{host}{self.scope.get('api_prefix', '')}"

    async def body(self, limit: int = BODY_LIMIT) -> bytes:
        """The whole body. Raises TooLarge beyond `limit` bytes, without reading on."""
        declared = self.headers.get("content-length")
        if declared is not None and declared.isdigit() and int(declared) > limit:
            raise TooLarge(f"The body is larger than {limit} bytes")
        parts, size = [], 0
        async for part in self.stream():
            size += len(part)
            if size > limit:
                raise TooLarge(f"The body is larger than {limit} bytes")
            parts.append(part)
        return b"".join(parts)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in parts as they arrive. Raises Invalid if the client goes away in the middle."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Invalid("The client went away before its request was complete")
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                return

    async def json(self, kind: type[Body], *, strict: bool = True) -> Body:
        """The body as a value of `kind` (a msgspec Struct). `strict` False also takes "2" for 2, as Nova does.

        Raises Invalid naming the place and what is wrong with it, TooLarge for a huge body.
        """
        data = await self.body()
        try:
            return msgspec.json.decode(data, type=kind, strict=strict)
        except (msgspec.ValidationError, msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise Invalid(f"The request's body is not valid: {error}") from error

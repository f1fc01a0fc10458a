"""Requests to the cloud's APIs, counted. Nothing here repeats a request.

Invariant: every request, every error and every retry of a run is in its `Tally`, whoever sent it and why.
"""

from collections import Counter
from typing import TypeVar

import msgspec

from muster.base.errors import Transient
from muster.client.bodies import decode
from muster.client.cloud import Cloud, Service
from muster.client.faults import refusal
from muster.client.http import HttpClient, Request, Response

T = TypeVar("T")


class Call(msgspec.Struct, frozen=True):
    """One request: `what` names it in the counts, `ok` are the statuses that are no error."""

    what: str
    method: str
    service: Service
    path: str
    body: object = None
    ok: tuple[int, ...] = (200,)
    timeout_s: float = 60.0


class Traffic(msgspec.Struct, frozen=True):
    """Requests by what they were for ("POST servers"); errors by "POST servers: 500"; retries likewise."""

    requests: dict[str, int]
    errors: dict[str, int]
    retries: dict[str, int]
    connections: int
    received_bytes: int


class Tally:
    """Counts requests, errors, retries and bytes."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()
        self.received_bytes = 0

    def traffic(self, connections: int) -> Traffic:
        """The counts as a value."""
        return Traffic(
            dict(self.requests), dict(self.errors), dict(self.retries), connections, received_bytes=self.received_bytes
        )


class Api:
    """The cloud's compute, network and image APIs, at their oldest microversion: every cloud has that."""

    def __init__(self, http: HttpClient, cloud: Cloud, tally: Tally) -> None:
        self._http = http
        self._cloud = cloud
        self.tally = tally

    async def send(self, call: Call) -> Response:
        """Send one request, once.

        Raises the error of base/errors.py that fits a status which is not in `call.ok`, Transient when no answer came.
        """
        token = await self._cloud.tokens.current()
        headers = {"X-Auth-Token": token, "Accept": "application/json"}
        body = b""
        if call.body is not None:
            headers["Content-Type"] = "application/json"
            body = msgspec.json.encode(call.body)
        request = Request(call.method, self._cloud.endpoints[call.service] + call.path, headers, body)
        self.tally.requests[call.what] += 1
        try:
            response = await self._http.send(request, timeout_s=call.timeout_s)
        except Transient as error:
            self.tally.errors[f"{call.what}: {error.code.removeprefix('client.')}"] += 1
            raise
        self.tally.received_bytes += len(response.body)
        if response.status not in call.ok:
            if response.status == 401:
                self._cloud.tokens.refused(token)
            self.tally.errors[f"{call.what}: {response.status}"] += 1
            raise refusal(call.what, response)
        return response

    async def get(self, call: Call, kind: type[T]) -> T:
        """Send one request and decode its body. Raises what `send` raises, and Transient for an unexpected body."""
        response = await self.send(call)
        try:
            return decode(response.body, kind)
        except Transient:
            self.tally.errors[f"{call.what}: body"] += 1
            raise

"""Many requests at once, each sent exactly once, with the same client for whatever is measured."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from muster.base.errors import MusterError
from muster.bench.figures import spread
from muster.bench.records import Spread
from muster.client.http import HttpClient, Request, Response

REQUEST_TIMEOUT_S = 600.0


class Burst(msgspec.Struct, frozen=True):
    """What came of requests that were all sent at once. `statuses` counts answers; what got none is under 0."""

    duration_s: float
    spread: Spread
    statuses: Counter[int]
    answers: list[Response]

    def per_s(self, status: int) -> float:
        """How many ended with `status`, per second."""
        return self.statuses[status] / self.duration_s


async def burst(client: HttpClient, requests: Sequence[Request], timeout_s: float = REQUEST_TIMEOUT_S) -> Burst:
    """Send all at once and wait for all. A request without an answer is counted, not repeated."""
    answers: list[Response] = []
    latencies: list[float] = []
    statuses: Counter[int] = Counter()

    async def one(request: Request) -> None:
        began = time.monotonic()
        try:
            answer = await client.send(request, timeout_s=timeout_s)
        except MusterError:
            statuses[0] += 1
            return
        latencies.append(time.monotonic() - began)
        statuses[answer.status] += 1
        answers.append(answer)

    began = time.monotonic()
    await asyncio.gather(*map(one, requests))
    taken = time.monotonic() - began
    return Burst(taken, spread(latencies) or Spread(0.0, 0.0, 0.0, 0.0, 0.0), statuses, answers)


def post(url: str, body: object, token: str = "") -> Request:
    """A POST of JSON, the same bytes and headers for a cloud and for the floor."""
    headers = {"Content-Type": "application/json", "Accept": "application/json", "X-Auth-Token": token}
    return Request("POST", url, headers, msgspec.json.encode(body))

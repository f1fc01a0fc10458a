"""A user who asks for thousands of servers at once, once each, and remembers what he was answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from tests.audit import http
from tests.audit.http import UNREACHED, Answer

FLAVOR = "1"


@dataclass
class Answers:
    """What came of one kind of request: names by what was answered."""

    accepted: dict[str, str] = field(default_factory=dict)  # name to the server's id
    refused: dict[str, int] = field(default_factory=dict)  # to the status: nothing was done
    strange: set[str] = field(default_factory=set)  # what was said with a status other than "come again later"
    broken: set[str] = field(default_factory=set)  # no answer, or an unfinished one: done or not
    seconds: list[float] = field(default_factory=list)


class User:
    """Logged in as the administrator of a cloud: at the first of these URLs; of many requests each takes the next."""

    def __init__(self, base_urls: Sequence[str], password: str) -> None:
        self.base_url = base_urls[0]
        self._next = cycle(base_urls)
        self._password = password
        self._token = self._image = self._network = ""

    async def prepare(self) -> None:
        """A token, an image, and the default network."""
        self._token = await http.log_in(self.base_url, self._password)
        body = {"name": "tiny", "disk_format": "raw", "container_format": "bare"}
        self._image = (await self.ask("POST", "/image/v2/images", body)).body["id"]
        await self.ask("PUT", f"/image/v2/images/{self._image}/file", b"\0" * 1024)
        networks = await self.ask("GET", "/network/v2.0/networks?name=default")
        self._network = networks.body["networks"][0]["id"]

    async def ask(self, method: str, path: str, body: Any = None, *, at: str = "") -> Answer:
        return await http.ask(at or self.base_url, method, path, body, token=self._token)

    async def create(self, names: Iterable[str], answers: Answers) -> None:
        """A request for each, all at once."""

        async def one(name: str) -> None:
            server = {
                "name": name,
                "imageRef": self._image,
                "flavorRef": FLAVOR,
                "networks": [{"uuid": self._network}],
                "metadata": {"asked as": name},
            }
            path, at = "/compute/v2.1/servers", next(self._next)
            answer = await self._timed(lambda: self.ask("POST", path, {"server": server}, at=at), answers)
            if answer.status == 202:
                answers.accepted[name] = answer.body["server"]["id"]
            else:
                _not_accepted(name, answer, answers)

        await asyncio.gather(*(one(name) for name in names))

    async def delete(self, ids: Iterable[str], answers: Answers) -> None:
        """A request for each, all at once."""

        async def one(server_id: str) -> None:
            path, at = f"/compute/v2.1/servers/{server_id}", next(self._next)
            answer = await self._timed(lambda: self.ask("DELETE", path, at=at), answers)
            if answer.status in (204, 404):
                answers.accepted[server_id] = server_id
            else:
                _not_accepted(server_id, answer, answers)

        await asyncio.gather(*(one(server_id) for server_id in ids))

    async def servers(self) -> list[dict[str, Any]]:
        return await http.servers(self.base_url, self._token)

    @staticmethod
    async def _timed(ask: Callable[[], Awaitable[Answer]], answers: Answers) -> Answer:
        began = time.monotonic()
        try:
            return await ask()
        finally:
            answers.seconds.append(time.monotonic() - began)


def _not_accepted(name: str, answer: Answer, answers: Answers) -> None:
    if answer.status is None:
        answers.broken.add(name)
        return
    answers.refused[name] = answer.status
    if answer.status not in (UNREACHED.status, 503):
        answers.strange.add(f"answered {answer.status}: {answer.body}")

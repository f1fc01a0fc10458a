"""The end of a run's servers, by a cloud that forgets who asks, in virtual time."""

import asyncio
from collections.abc import Iterator
from typing import cast

import pytest

from muster.base.errors import MusterError, Transient, Unauthenticated
from muster.base.virtual_time import run
from muster.client.api import Api, Call, Tally
from muster.client.listing import Listing
from muster.client.sweep import Sweep

Answer = MusterError | set[str]


class _Listing:
    def __init__(self, answers: list[Answer]) -> None:
        self._answers: Iterator[Answer] = iter(answers)

    async def present(self) -> set[str]:
        answer = next(self._answers)
        if isinstance(answer, MusterError):
            raise answer
        return answer


class _Api:
    def __init__(self) -> None:
        self.tally = Tally()
        self.deleted: list[str] = []

    async def send(self, call: Call) -> None:
        self.deleted.append(call.path)


async def swept(*answers: Answer) -> tuple[dict[str, str], list[str]]:
    api, loop = _Api(), asyncio.get_running_loop()
    sweep = Sweep(cast(Api, api), cast(Listing, _Listing(list(answers))), loop.time)
    return await sweep.run(quiet_s=0.0, timeout_s=60.0), api.deleted


def test_a_token_that_was_taken_back_is_no_reason_to_leave_servers() -> None:
    """The first listing was refused, and all servers of the run stayed."""
    assert run(swept(Unauthenticated("who?"), {"a"}, set())) == ({}, ["/servers/a"])
    assert run(swept(Transient("away"), Unauthenticated("who?"), {"a"}, set())) == ({}, ["/servers/a"])


def test_who_may_not_list_at_all_is_told() -> None:
    with pytest.raises(Unauthenticated):
        run(swept(Unauthenticated("who?"), Unauthenticated("who?")))

"""A lease that etcd does not let its owner renew."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from tests.commands import HANG_S

from muster.locks.etcd_lease import Lease
from muster.locks.etcd_members import Member, Members, Refused


class Refusing:
    """Grants a lease of a second, then lets nobody in."""

    def __init__(self) -> None:
        self.asked = 0

    async def ask(self, _act: Callable[[Member], Awaitable[Any]]) -> int:
        self.asked += 1
        if self.asked > 1:
            raise Refused("etcd refuses the request")
        return 1


async def test_who_may_not_renew_asks_with_pauses() -> None:
    """It asked again and again at once, each time with the password."""
    members = Refusing()
    lease = Lease(cast(Members, members), ttl_s=1)
    await lease.grant()
    async with asyncio.timeout(HANG_S):
        await lease.gone.wait()
    lease.stop()
    assert members.asked <= 10

"""What every lock service offers."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Grant:
    """A lock that is held.

    `token` only grows over all grants of one name (a fencing token: a later holder has a higher one). `lost` is set as
    soon as the service knows, or must assume, that the lease is gone: what is not committed by then must not be.
    `contended` says that others held it meanwhile, where the engine can tell.
    """

    def __init__(self, name: str, token: int) -> None:
        self.name = name
        self.token = token
        self.lost = asyncio.Event()
        self.contended = False


class LockService(Protocol):
    """Named locks: fair in the order of asking as far as the engine can, with a lease that is renewed while held."""

    def hold(self, name: str) -> AbstractAsyncContextManager[Grant]:
        """Wait for the lock `name` and hold it. Raises Transient when the service is away."""
        ...

    def hold_all(self, names: Sequence[str]) -> AbstractAsyncContextManager[dict[str, Grant]]:
        """Hold several, taken in sorted order so that two holders never wait for each other."""
        ...

    async def close(self) -> None: ...

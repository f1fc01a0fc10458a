"""Passwords: hashed and checked with Argon2id, off the event loop, in a bounded number of threads.

Invariant: a password is never kept. Checking one takes as long for a user that does not exist as for one that does.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from msgspec import Struct

from muster.base.errors import Transient
from muster.base.ids import new_secret

Result = TypeVar("Result")

MAX_LENGTH = 4096  # as in Keystone; a longer one matches nothing


class PasswordSettings(Struct, frozen=True, kw_only=True):
    """Argon2id's cost (RFC 9106; these are OWASP's figures, about 20 ms), and how much goes on at once.

    `threads` hash side by side, each with `memory_kib`; beyond `max_waiting` callers get Transient.
    """

    time_cost: int = 2
    memory_kib: int = 19_456
    parallelism: int = 1
    threads: int = 2
    max_waiting: int = 2_000


class Passwords:
    """Hashes and checks passwords and secrets. `close` ends its threads."""

    def __init__(self, settings: PasswordSettings = PasswordSettings()) -> None:  # noqa: B008 - frozen
        self._hasher = PasswordHasher(
            time_cost=settings.time_cost, memory_cost=settings.memory_kib, parallelism=settings.parallelism
        )
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="passwords")
        self._max_waiting = settings.max_waiting
        self._waiting = 0
        self._nobody = self._hasher.hash(new_secret())

    async def hash(self, password: str) -> str:
        """The hash to store. One run of Argon2id. Raises Transient when too many wait."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password is right; False, just as slowly, where there is no hash. One run of Argon2id."""
        return await self._run(lambda: self._matches(password_hash, password))

    def close(self) -> None:
        """End the threads; what waits is dropped."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, password_hash: str | None, password: str) -> bool:
        possible = password_hash is not None and len(password) <= MAX_LENGTH
        try:
            self._hasher.verify(password_hash or self._nobody, password[:MAX_LENGTH])
        except (Argon2Error, InvalidHashError):
            return False
        return possible

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._waiting >= self._max_waiting:
            raise Transient("Too many passwords wait to be checked", retry_after_s=2.0)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

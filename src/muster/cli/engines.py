"""The engines of a cloud: where its state is kept, where its locks are, how its messages go."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import SystemRandom

from msgspec import Struct

from muster.bus.open import MEMORY, open_bus
from muster.bus.protocol import Bus
from muster.locks.open import open_locks
from muster.locks.protocol import LockService
from muster.store.engine import Database
from muster.store.schema import bring_to_head


class EngineSettings(Struct, frozen=True, kw_only=True):
    """URLs as `Database`, `open_locks` and `open_bus` take them; they hold passwords, so nothing here is ever shown.

    `member` is this process's name among those that share the engines; in `token_dir` are the counters of Tooz's locks.
    """

    database_url: str
    locks_url: str
    token_dir: Path
    bus_url: str = MEMORY
    member: str = "muster"

    def __repr__(self) -> str:
        return f"EngineSettings({self.member})"


class Engines(Struct, frozen=True):
    """Connected, and the database has the tables of this version."""

    database: Database
    locks: LockService
    bus: Bus


@asynccontextmanager
async def opened_engines(settings: EngineSettings) -> AsyncIterator[Engines]:
    """The engines, until the end of the block. Makes or alters tables where this version wants that.

    Raises Invalid for a URL that is not right, Transient when an engine is away, SchemaMismatch.
    """
    async with AsyncExitStack() as stack:
        database = Database(settings.database_url)
        stack.push_async_callback(database.close)
        await bring_to_head(database)
        locks = await open_locks(settings.locks_url, settings.member, settings.token_dir)
        stack.push_async_callback(locks.close)
        bus = open_bus(settings.bus_url, settings.member, SystemRandom())
        stack.push_async_callback(bus.close)
        yield Engines(database, locks, bus)

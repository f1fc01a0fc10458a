"""The network services over a given database, for tests that need more than statements."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from muster.api.network.services import Services, assemble, assemble_batch
from muster.base.clock import system_clock
from muster.domain.context import Context
from muster.domain.quotas import NETWORK_DEFAULTS
from muster.locks.protocol import LockService
from muster.locks.tooz import ToozLocks
from muster.services.outbox import Outbox
from muster.services.port_work import PortSettings
from muster.services.quotas import Quotas
from muster.store.engine import Database

MEMBER = Context(user_id="u", project_id="p1", roles=frozenset({"member"}))
ADMIN = Context(user_id="a", project_id="adm", roles=frozenset({"admin"}))


@asynccontextmanager
async def network_cloud(
    database: Database,
    directory: Path,
    name: str = "one",
    locks: LockService | None = None,
    settings: PortSettings | None = None,
) -> AsyncIterator[Services]:
    """One worker's services; two workers share `directory` for their locks, unless they are given others to close."""
    if locks is None:
        locks = ToozLocks(f"file://{directory}/locks", name, directory / "tokens")
        await locks.start()
    quotas = Quotas(dict.fromkeys(NETWORK_DEFAULTS, -1))
    outbox = Outbox(system_clock)
    batch, groups = assemble_batch(database, locks, quotas, outbox, rng=Random(name), settings=settings)
    try:
        yield assemble(database, batch, groups)
    finally:
        await locks.close()

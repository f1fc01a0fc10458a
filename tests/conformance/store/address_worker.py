"""A process that makes and deletes ports until it is killed, and writes down what it was told."""

import asyncio
import os
from pathlib import Path
from random import Random

import msgspec

from muster.api.network.services import Services, assemble, assemble_batch
from muster.base.clock import system_clock
from muster.base.errors import Conflict, Exhausted, Transient
from muster.base.ids import new_uuid
from muster.domain.ports import NewPort, WantedIp
from muster.locks.open import open_locks
from muster.services.outbox import Outbox
from muster.services.port_work import PortSettings
from muster.services.quotas import Quotas
from muster.store.engine import Database

from .workers import ADMIN

AT_ONCE = 8
#: Short, so that addresses come back while the test lasts.
REST_S = 0.5
#: On SQLite too, where it has no use but must be right.
LEASE_S = 2.0


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Where to work, and the file that everything is written to."""

    database_url: str
    locks_url: str
    folder: Path
    journal: Path
    network_id: str
    first: str  # of the pool; asked for by name now and then
    seed: int


def work(task: Task) -> None:
    """Until somebody kills this process."""
    asyncio.run(_work(task))


async def services(database: Database, locks_url: str, folder: Path, seed: int) -> tuple[Services, object]:
    """One process's, and its locks, to be closed."""
    locks = await open_locks(locks_url, f"worker{seed}", folder / "tokens")
    settings = PortSettings(rest_s=REST_S, lease_s=LEASE_S)
    batch, groups = assemble_batch(
        database, locks, Quotas({}), Outbox(system_clock), rng=Random(seed), settings=settings
    )
    return assemble(database, batch, groups), locks


async def _work(task: Task) -> None:
    database = Database(task.database_url)
    cloud, _ = await services(database, task.locks_url, task.folder, task.seed)
    rng = Random(task.seed)
    mine: list[str] = []
    journal = os.open(task.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(word: str, *what: str) -> None:
        os.write(journal, f"{' '.join((word, *what))}\n".encode())  # in the kernel before anything else is done

    async def make() -> None:
        wanted = (WantedIp(ip_address=task.first),) if rng.random() < 0.1 else None
        draft = NewPort(id=new_uuid(), project_id="adm", network_id=task.network_id, fixed_ips=wanted)
        try:
            port = await cloud.ports.create(ADMIN, draft)
        except (Exhausted, Conflict, Transient) as error:
            note("refused", error.code)
        else:
            note("made", port.id, port.fixed_ips[0].ip_address)
            mine.append(port.id)

    async def delete(port_id: str) -> None:
        note("deleting", port_id)
        try:
            await cloud.ports.delete(ADMIN, port_id)
        except Transient as error:
            note("refused", error.code)
        else:
            note("deleted", port_id)

    while True:
        doomed = [mine.pop(rng.randrange(len(mine))) for _ in range(min(len(mine), rng.randrange(AT_ONCE)))]
        await asyncio.gather(*(make() for _ in range(AT_ONCE)), *map(delete, doomed))

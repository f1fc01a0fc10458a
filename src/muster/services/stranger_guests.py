"""What became of guests that hosts have and nobody told them of: the database says it."""

from collections.abc import Sequence, Set

from muster.base.log import get_logger
from muster.bus.protocol import Bus
from muster.domain.messages import Fates, Strangers, encode, host_topic
from muster.services.dispatcher import Dispatcher
from muster.store import servers as server_store
from muster.store.engine import Database

log = get_logger(__name__)

_REMEMBERED = 10_000


class StrangerGuests:
    """Answers hosts' questions after them."""

    def __init__(self, database: Database, bus: Bus, dispatcher: Dispatcher) -> None:
        self._database = database
        self._bus = bus
        self._dispatcher = dispatcher
        self._logged: set[tuple[str, str]] = set()

    async def tell_fates(self, questions: Sequence[Strangers]) -> None:
        """Say which of these strangers were deleted, and which the database does not know: it was set back, or the
        guest is of another cloud. A host that should have one of them is sent everything. One query for all."""
        if not questions:
            return
        async with self._database.read() as connection:
            ids = {server_id for question in questions for server_id in question.server_ids}
            known = await server_store.read_by_ids(connection, ids)
        due, answers = set(), []
        for question in questions:
            host_id = question.host_id
            servers = {server_id: known.get(server_id) for server_id in question.server_ids}
            ended = {id_ for id_, server in servers.items() if server and server.deleted_at is not None}
            here = {id_ for id_, server in servers.items() if server and server.host_id == host_id} - ended
            unknown = servers.keys() - ended - here
            self._log(host_id, unknown, known=ended | here)
            if here:
                due.add(host_id)
            fates = Fates(host_id=host_id, ended=tuple(ended), unknown=tuple(sorted(unknown)))
            answers.append((host_topic(host_id), encode(fates)))
        await self._bus.publish(answers)
        if due:
            await self._dispatcher.send_everything(dict.fromkeys(due, 0), why="stranger")

    def _log(self, host_id: str, unknown: Set[str], known: Set[str]) -> None:
        """Say each unknown guest once: its host asks after it again and again, for as long as it keeps it."""
        self._logged -= {(host_id, server_id) for server_id in known}
        new = sorted(server_id for server_id in unknown if (host_id, server_id) not in self._logged)
        if not new:
            return
        if len(self._logged) + len(new) > _REMEMBERED:
            self._logged.clear()
        self._logged |= {(host_id, server_id) for server_id in new}
        log.error(
            "guests unknown to the database: their host shuts them down and keeps them, see there: muster kept",
            action="reports.unknown",
            host=host_id,
            servers=new,
        )

"""Attaches and detaches network cards of one guest that runs. Whoever calls holds the server's turn.

Invariants: what is done is the difference to the cards that libvirt lists, so that being killed anywhere is repaired by
doing it again; no thread waits for a guest; a guest that does not let go is put off, and fails nobody.
"""

import asyncio
import contextlib
from collections.abc import Sequence

from muster.base.errors import Conflict, NotFound, Transient
from muster.base.log import get_logger
from muster.domain.specs import PortSpec, ServerSpec
from muster.host.hypervisor.libvirt import domains
from muster.host.hypervisor.libvirt.cards import Card, Removals, card_changes
from muster.host.hypervisor.libvirt.connection import Connection, LibvirtFailed
from muster.host.hypervisor.libvirt.definition import interface
from muster.host.hypervisor.libvirt.domainxml.node import render

_ASK_AGAIN_S = 5.0

log = get_logger(__name__)


class Cards:
    """Network cards of guests. `timeout_s`: how long one may take to let go of a card."""

    def __init__(self, connection: Connection, removals: Removals, timeout_s: float) -> None:
        self._connection = connection
        self._removals = removals
        self._timeout_s = timeout_s

    async def replug(self, server: ServerSpec) -> None:
        """The guest has a card for each of the server's ports and no other; one that has ended is no error.

        Raises Transient when it does not let go of a card, Invalid, LibvirtFailed.
        """
        with contextlib.suppress(NotFound):
            changes = card_changes(await self._connection.call(domains.cards(server.id), 2), server.ports)
            await self._attach(server.id, changes.attach)
            if changes.detach:
                await self._detach(server.id, changes.detach)
            await self._attach(server.id, changes.attach_after)

    async def _attach(self, server_id: str, ports: Sequence[PortSpec]) -> None:
        for port in ports:
            await self._connection.call(domains.attach(server_id, render(interface(port))), 2)

    async def _detach(self, server_id: str, cards: Sequence[Card]) -> None:
        with self._removals.awaited(server_id, [card.alias for card in cards]) as gone:
            for card in cards:
                try:
                    await self._connection.call(domains.detach(server_id, card.alias), 2)
                except (Conflict, LibvirtFailed) as error:
                    # To be asked again while it is still busy letting go counts as a failure. Whatever it is: wait.
                    log.info("card not detached", action="card_not_detached", server=server_id, error=error.message)
            waiting = asyncio.gather(*(event.wait() for event in gone))
            try:
                await asyncio.wait_for(waiting, self._timeout_s)
            except TimeoutError:
                raise Transient(
                    f"the guest does not let go of its network cards {', '.join(card.tap for card in cards)}",
                    retry_after_s=_ASK_AGAIN_S,
                ) from None

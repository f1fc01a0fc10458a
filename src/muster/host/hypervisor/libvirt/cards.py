"""Network cards of a guest that runs: which there are, and which have to be attached and detached. Pure, but for
`Removals`, which hears what guests have let go of.

Invariant: a card is known by its tap and its MAC together; a new card never meets an old one with its MAC.
"""

import asyncio
import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

from msgspec import Struct

from muster.domain.specs import PortSpec
from muster.host.names import tap_name


class Card(Struct, frozen=True):
    """A card as its domain has it; libvirt knows it by its alias."""

    alias: str
    mac_address: str
    tap: str


class CardChanges(Struct, frozen=True):
    """What has to be done, in this order. `attach_after` are ports whose MAC a card has that is to go."""

    attach: tuple[PortSpec, ...] = ()
    detach: tuple[Card, ...] = ()
    attach_after: tuple[PortSpec, ...] = ()


def read_cards(xml: str) -> list[Card]:
    """The cards in a domain's XML, as libvirt gives it."""
    cards = []
    for found in ET.fromstring(xml).findall("./devices/interface"):  # noqa: S314  # from libvirt, which has parsed it
        alias, mac, target = (found.find(tag) for tag in ("alias", "mac", "target"))
        if alias is not None and mac is not None:
            tap = target.get("dev", "") if target is not None else ""
            cards.append(Card(alias.get("name", ""), mac.get("address", "").lower(), tap))
    return cards


def card_changes(cards: Sequence[Card], ports: Sequence[PortSpec]) -> CardChanges:
    """How a guest with these cards gets to have one for each of these ports and no other."""
    wanted = {(port.mac_address.lower(), tap_name(port.id)) for port in ports}
    detach = tuple(card for card in cards if (card.mac_address, card.tap) not in wanted)
    there = {(card.mac_address, card.tap) for card in cards}
    missing = [port for port in ports if (port.mac_address.lower(), tap_name(port.id)) not in there]
    busy = {card.mac_address for card in detach}
    return CardChanges(
        attach=tuple(port for port in missing if port.mac_address.lower() not in busy),
        detach=detach,
        attach_after=tuple(port for port in missing if port.mac_address.lower() in busy),
    )


class Removals:
    """Who waits for which devices to be let go of."""

    def __init__(self) -> None:
        self._awaited: dict[tuple[str, str], asyncio.Event] = {}

    def happened(self, server_id: str, alias: str) -> None:
        """A guest has let go of a device."""
        if (server_id, alias) in self._awaited:
            self._awaited[server_id, alias].set()

    @contextlib.contextmanager
    def awaited(self, server_id: str, aliases: Sequence[str]) -> Iterator[list[asyncio.Event]]:
        """An event for each of these devices, set when the guest has let go of it."""
        events = {(server_id, alias): asyncio.Event() for alias in aliases}
        self._awaited |= events
        try:
            yield list(events.values())
        finally:
            for key in events:
                del self._awaited[key]

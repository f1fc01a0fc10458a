"""Which network cards a guest has and should have, and the wait for one to be let go of."""

import asyncio

import msgspec

from muster.domain.specs import PortSpec
from muster.host.hypervisor.libvirt.cards import Card, CardChanges, Removals, card_changes, read_cards
from muster.host.names import tap_name

ONE = PortSpec(id="11111111-2222-4333-8444-555555555555", network_id="n", mac_address="FA:16:3E:00:00:01")
TWO = PortSpec(id="21111111-2222-4333-8444-555555555555", network_id="n", mac_address="fa:16:3e:00:00:02")


def card(port: PortSpec, alias: str = "net0") -> Card:
    return Card(alias, port.mac_address.lower(), tap_name(port.id))


def test_cards_are_read_from_a_running_domain() -> None:
    xml = """<domain><devices>
      <disk><alias name='virtio-disk0'/></disk>
      <interface type='ethernet'>
        <mac address='fa:16:3e:00:00:01'/><target dev='tap11111111-22' managed='no'/><model type='virtio'/>
        <alias name='net0'/>
      </interface>
      <interface type='user'><mac address='52:54:00:00:00:01'/><alias name='net1'/></interface>
      <interface type='network'><source network='x'/></interface>
    </devices></domain>"""
    assert read_cards(xml) == [card(ONE), Card("net1", "52:54:00:00:00:01", "")]
    assert read_cards("<domain/>") == []


def test_only_the_difference_is_changed() -> None:
    assert card_changes([card(ONE)], [ONE]) == CardChanges()
    assert card_changes([], [ONE, TWO]) == CardChanges(attach=(ONE, TWO))
    assert card_changes([card(ONE), card(TWO, "net1")], [TWO]) == CardChanges(detach=(card(ONE),))
    assert card_changes([card(ONE)], [TWO]) == CardChanges(attach=(TWO,), detach=(card(ONE),))


def test_a_mac_is_free_only_when_its_old_card_has_gone() -> None:
    twin = msgspec.structs.replace(TWO, mac_address=ONE.mac_address)
    assert card_changes([card(ONE)], [twin]) == CardChanges(detach=(card(ONE),), attach_after=(twin,))


async def test_a_removal_is_heard_by_who_awaits_it() -> None:
    removals = Removals()
    removals.happened("server", "net0")  # nobody waits
    with removals.awaited("server", ["net0", "net1"]) as (first, second):
        removals.happened("server", "net1")
        removals.happened("other", "net0")
        assert (first.is_set(), second.is_set()) == (False, True)
        removals.happened("server", "net0")
        await asyncio.wait_for(first.wait(), 300)
    removals.happened("server", "net0")

"""A guest's counters, from what libvirt and QEMU count. Source: libvirt's virConnectGetAllDomainStats."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import libvirt

from muster.base.errors import Conflict
from muster.base.units import KIB, MIB
from muster.domain.diagnostics import CardCounts, Diagnostics, DiskCounts
from muster.host.hypervisor.libvirt.cards import read_cards
from muster.host.hypervisor.libvirt.settings import Accelerator

_WANTED = (
    libvirt.VIR_DOMAIN_STATS_STATE
    | libvirt.VIR_DOMAIN_STATS_VCPU
    | libvirt.VIR_DOMAIN_STATS_BALLOON
    | libvirt.VIR_DOMAIN_STATS_INTERFACE
    | libvirt.VIR_DOMAIN_STATS_BLOCK
)
_HYPERVISORS = {Accelerator.KVM: "kvm", Accelerator.TCG: "qemu"}

Stats = Mapping[str, Any]


def diagnostics(server_id: str, accelerator: Accelerator) -> Callable[[Any], Diagnostics]:
    """What a guest that runs takes. Three calls. Raises Conflict for one that has just ended."""

    def ask(connection: Any) -> Diagnostics:
        domain = connection.lookupByUUIDString(server_id)
        found = connection.domainListGetStats([domain], _WANTED, 0)
        if not found:
            raise Conflict("the guest does not run")
        macs = {card.tap: card.mac_address for card in read_cards(domain.XMLDesc(0))}
        return counted(found[0][1], macs, _HYPERVISORS[accelerator])

    return ask


def counted(stats: Stats, macs: Mapping[str, str], hypervisor: str) -> Diagnostics:
    """libvirt's flat statistics as values; `macs` are the cards' by their taps."""
    return Diagnostics(
        hypervisor=hypervisor,
        paused=stats.get("state.state") == libvirt.VIR_DOMAIN_PAUSED,
        ram_max_mib=_mib(stats.get("balloon.maximum")),
        ram_used_mib=_mib(stats.get("balloon.rss")),
        cpu_times_ns=tuple(one.get("time") for one in _each(stats, "vcpu", "vcpu.maximum")),
        cards=tuple(_card(one, macs) for one in _each(stats, "net", "net.count")),
        disks=tuple(_disk(one) for one in _each(stats, "block", "block.count")),
    )


def _card(one: Stats, macs: Mapping[str, str]) -> CardCounts:
    name = one.get("name", "")
    return CardCounts(
        name=name,
        mac_address=macs.get(name),
        rx_octets=one.get("rx.bytes"),
        rx_packets=one.get("rx.pkts"),
        rx_errors=one.get("rx.errs"),
        rx_drop=one.get("rx.drop"),
        tx_octets=one.get("tx.bytes"),
        tx_packets=one.get("tx.pkts"),
        tx_errors=one.get("tx.errs"),
        tx_drop=one.get("tx.drop"),
    )


def _disk(one: Stats) -> DiskCounts:
    return DiskCounts(
        name=one.get("name", ""),
        read_bytes=one.get("rd.bytes"),
        read_requests=one.get("rd.reqs"),
        write_bytes=one.get("wr.bytes"),
        write_requests=one.get("wr.reqs"),
    )


def _each(stats: Stats, kind: str, count: str) -> Iterator[Stats]:
    """The statistics of one kind, by number: `net.1.name` is `name` of the second."""
    for number in range(stats.get(count, 0)):
        prefix = f"{kind}.{number}."
        yield {name.removeprefix(prefix): value for name, value in stats.items() if name.startswith(prefix)}


def _mib(kib: int | None) -> int | None:
    return None if kib is None else kib * KIB // MIB

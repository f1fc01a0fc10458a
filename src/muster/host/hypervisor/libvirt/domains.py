"""What is asked of libvirt, a function per question. All block; all but `created` are outside the way of a creation."""

import contextlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import libvirt

from muster.base.units import GIB, KIB
from muster.domain.reports import HostCapacity
from muster.host.hypervisor.libvirt.cards import Card, read_cards
from muster.host.hypervisor.libvirt.definition import domain_name, read_mark
from muster.host.hypervisor.libvirt.domainxml.domain import Mark
from muster.host.memory import MemoryReader

Call = Callable[[Any], None]


def running(connection: Any) -> set[str]:
    """The server ids of all domains with Muster's names. One call, however many there are."""
    found = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    ids = {domain.UUIDString(): domain.name() for domain in found}
    return {server_id for server_id, name in ids.items() if name == domain_name(server_id)}


def is_running(server_id: str) -> Callable[[Any], bool]:
    """Whether one domain runs. One or two calls."""

    def ask(connection: Any) -> bool:
        with contextlib.suppress(libvirt.libvirtError):
            return bool(connection.lookupByUUIDString(server_id).isActive())
        return False

    return ask


def create(xml: str) -> Call:
    """Define and start a transient domain: the one call of a creation."""

    def ask(connection: Any) -> None:
        connection.createXML(xml, 0)

    return ask


def press_power_button(server_id: str) -> Call:
    """Ask a guest to shut down, by ACPI. Two calls."""

    def ask(connection: Any) -> None:
        domain = connection.lookupByUUIDString(server_id)
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)

    return ask


def destroy(server_id: str) -> Call:
    """End a guest at once. Two calls."""

    def ask(connection: Any) -> None:
        domain = connection.lookupByUUIDString(server_id)
        try:
            domain.destroy()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:  # it has ended, and libvirt has forgotten it
                raise

    return ask


def resume_stalled(server_ids: Collection[str]) -> Callable[[Any], list[str]]:
    """Let those of these guests go on that QEMU paused because the host's disk was full; who they were.

    One that still finds no room is paused again. One call, two per paused guest and a third for each that goes on.
    """

    def ask(connection: Any) -> list[str]:
        resumed = []
        for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED):
            server_id = domain.UUIDString()
            with contextlib.suppress(libvirt.libvirtError):  # it has ended meanwhile
                if server_id in server_ids and domain.state()[1] == libvirt.VIR_DOMAIN_PAUSED_IOERROR:
                    domain.resume()
                    resumed.append(server_id)
        return resumed

    return ask


def cards(server_id: str) -> Callable[[Any], list[Card]]:
    """The network cards of a guest that runs. Two calls."""

    def ask(connection: Any) -> list[Card]:
        return read_cards(connection.lookupByUUIDString(server_id).XMLDesc(0))

    return ask


def attach(server_id: str, xml: str) -> Call:
    """Plug a device into a guest that runs. Two calls."""

    def ask(connection: Any) -> None:
        connection.lookupByUUIDString(server_id).attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    return ask


def detach(server_id: str, alias: str) -> Call:
    """Ask a guest that runs to let go of a device, without waiting; an event says when it has. Two calls."""

    def ask(connection: Any) -> None:
        connection.lookupByUUIDString(server_id).detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    return ask


def marks(server_ids: list[str]) -> Callable[[Any], dict[str, Mark | None]]:
    """The marks of domains of which nothing else is known. Two calls each; of those that have gone meanwhile, none."""

    def ask(connection: Any) -> dict[str, Mark | None]:
        found: dict[str, Mark | None] = {}
        for server_id in server_ids:
            with contextlib.suppress(libvirt.libvirtError):
                found[server_id] = read_mark(connection.lookupByUUIDString(server_id).XMLDesc(0))
        return found

    return ask


def capacity(directory: Path, reserved_ram_mib: int) -> Callable[[Any], HostCapacity]:
    """What the host has. Two calls, one statvfs.

    Memory is that of getMemoryStats: getInfo has been seen to report a quarter of it on a virtual machine. In a control
    group with a limit the host has no more than that.
    """

    def ask(connection: Any) -> HostCapacity:
        disk = os.statvfs(directory)
        ram_mib = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)["total"] // KIB
        limits = MemoryReader()()
        return HostCapacity(
            vcpus=connection.getInfo()[2],
            ram_mib=min(ram_mib, limits.total_mib) if limits else ram_mib,
            disk_gib=disk.f_blocks * disk.f_frsize // GIB,
            reserved_ram_mib=reserved_ram_mib,
        )

    return ask

"""Taking down all of a cloud's host that runs or stands on this machine; what is in the cloud's folder stays.

To the cloud it is as if the host's power had failed: the next start brings its guests up again from their disks.
Invariants: only what is this cloud's is touched, also after a crash; a namespace that is no more is no error, since
everything in it went with it.
"""

import asyncio
import contextlib
import shutil

from msgspec import Struct
from msgspec.structs import replace

from muster.host.hypervisor.libvirt.libvirtd import LibvirtdSettings, PrivateLibvirtd
from muster.host.ksm_keeper import restore as restore_ksm
from muster.host.machine import (
    Layout,
    Machine,
    claimed_namespace,
    forget_libvirtd,
    give_up_namespace,
    known_machine,
    owns_namespace,
)
from muster.host.namespace import enter, find
from muster.host.network import LinuxPlumbing, NetworkSettings, TornDown

_NOTHING = TornDown(dhcp_servers=0, bridges=0, taps=0, rules=False)


class Removed(Struct, frozen=True, kw_only=True):
    """What there was: guests, their libvirtd, their network. `ksm`: it stands as before Muster changed it."""

    guests: int = 0
    libvirtd: bool = False
    ksm: bool = False
    network: TornDown = _NOTHING


def take_down_host(layout: Layout) -> Removed:
    """Take down a cloud's host, wherever it worked; this thread is in its network namespace from then on.

    To be called by who holds the cloud's folder. Raises Conflict (it is another's by now), Transient, Unsupported.
    """
    machine = known_machine(layout)
    if machine is None:
        return Removed()
    place = find(machine.namespace)
    if place is None:
        removed = _end_guests(layout, machine)
        shutil.rmtree(layout.network, ignore_errors=True)
        return removed
    enter(place)
    if not owns_namespace(layout):
        return _end_guests(layout, machine)
    with claimed_namespace(layout):
        return take_down(layout, machine)


def take_down(layout: Layout, machine: Machine) -> Removed:
    """The same in this thread's network namespace, which the caller has claimed."""
    removed = _end_guests(layout, machine)
    network = asyncio.run(_tear_down(layout))
    shutil.rmtree(layout.network, ignore_errors=True)
    give_up_namespace()
    return replace(removed, network=network)


def _end_guests(layout: Layout, machine: Machine) -> Removed:
    """Guests first, so that none runs without its rules, and what was set for their sake."""
    daemon = PrivateLibvirtd(LibvirtdSettings(directory=layout.libvirtd(machine.host_id)))
    was_running, guests = daemon.is_running(), daemon.count_guests()
    daemon.stop()
    forget_libvirtd(layout, machine)
    with contextlib.suppress(OSError):  # a kernel that does not let it be set has not let it be changed
        return Removed(guests=guests, libvirtd=was_running, ksm=restore_ksm(layout.folder))
    return Removed(guests=guests, libvirtd=was_running)


async def _tear_down(layout: Layout) -> TornDown:
    plumbing = LinuxPlumbing(NetworkSettings(state_dir=layout.network))
    try:
        return await plumbing.teardown()
    finally:
        with contextlib.suppress(Exception):
            await plumbing.close()

"""This machine as a host of the cloud: its libvirtd, its network namespace, and the adapters over them.

Invariant: leaving keeps guests and their network as they are, so that the next start takes them up again, unless none
runs: then nothing is left standing.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

from muster.base.errors import MusterError
from muster.base.log import get_logger
from muster.base.metrics import GUESTS_KEPT
from muster.base.tasks import kept_running
from muster.cli.built_guest import cache_dir
from muster.cli.hosts import RealHostChoices
from muster.domain.network_members import tunnel_address
from muster.host.agent import HostIdentity, HostParts
from muster.host.boot_settings import boot_settings
from muster.host.hypervisor.libvirt.accelerator import ProbeSettings, choose_accelerator
from muster.host.hypervisor.libvirt.hypervisor import LibvirtHypervisor
from muster.host.hypervisor.libvirt.kept import Shelf
from muster.host.hypervisor.libvirt.libvirtd import LibvirtdSettings, PrivateLibvirtd
from muster.host.hypervisor.libvirt.settings import Accelerator, LibvirtSettings
from muster.host.images import ImageCache
from muster.host.ksm_keeper import KsmKeeper
from muster.host.machine import Layout, Machine, check_is_here, claimed_namespace, this_machine
from muster.host.memory import MemoryReader
from muster.host.memory_guard import Guarding, GuardSettings
from muster.host.metadata.guests import GuestDescriptions, PlumbingWithMetadata
from muster.host.metadata.service import MetadataService
from muster.host.network import LinuxPlumbing, NetworkSettings
from muster.host.ports import ImageSource
from muster.host.power_failure import PowerFailure
from muster.host.takedown import take_down
from muster.host.unpacking import unpack

_LIBVIRT_THREADS = 5
_CARE_S = 5.0
#: For the machine itself and Muster; for each QEMU beside its guest's memory (emulated: 64 MiB of translated code).
_RESERVED_MIB = 512
_OVERHEAD_MIB = {Accelerator.KVM: 40, Accelerator.TCG: 100}

log = get_logger(__name__)


class RealHost:
    """This machine, ready to be a host; see `opened_host`."""

    def __init__(
        self,
        layout: Layout,
        machine: Machine,
        daemon: PrivateLibvirtd,
        accelerator: Accelerator,
        choices: RealHostChoices,
    ) -> None:
        self._layout = layout
        self._machine = machine
        self._daemon = daemon
        self.accelerator = accelerator
        self._choices = choices
        self.hostname = socket.gethostname()

    @asynccontextmanager
    async def parts(self, images: ImageSource) -> AsyncIterator[HostParts]:
        """What an agent is made of. Its adapters are the agent's to close, before the end of the block."""
        cache = ImageCache(images, self._layout.images, unpack)
        service = MetadataService()
        guests = GuestDescriptions(service)
        hypervisor = LibvirtHypervisor(self._libvirt_settings(), cache, guests.network_of)
        tunnels_end = tunnel_address(self._choices.host_ip)
        network = NetworkSettings(
            state_dir=self._layout.network,
            tunnel_address=tunnels_end,
            lease_time_s=self._choices.lease_time_s,
        )
        plumbing = LinuxPlumbing(network)
        with suppress(MusterError):  # what cannot be told to be unused is kept
            await hypervisor.evict_images()
        shelf = Shelf(self._layout.instances)
        GUESTS_KEPT.labels(self.hostname).set_function(lambda: len(shelf.folders()))
        memory = MemoryReader()
        keeper = KsmKeeper(self._layout.folder, self._choices.ksm, memory)
        keeper.measure(self.hostname)
        power = PowerFailure()
        caring = [
            asyncio.create_task(kept_running("libvirtd", partial(self._care_for_libvirtd, power)), name="libvirtd"),
            asyncio.create_task(kept_running("KSM", keeper.run), name="KSM"),
        ]
        try:
            yield HostParts(
                identity=HostIdentity(
                    host_id=self._machine.host_id,
                    hostname=self.hostname,
                    hypervisor_type="QEMU",
                    hypervisor_version=await hypervisor.version(),
                    host_ip=self._choices.host_ip,
                ),
                hypervisor=hypervisor,
                plumbing=PlumbingWithMetadata(plumbing, service),
                leases=plumbing.leases(),
                guarding=Guarding(
                    read=memory,
                    host=self.hostname,
                    settings=GuardSettings(overhead_mib=_OVERHEAD_MIB[self.accelerator]),
                ),
                boots=boot_settings(
                    self._choices.boots, emulated=self.accelerator is Accelerator.TCG, n_cpus=os.cpu_count() or 1
                ),
                watcher=guests,
                power=power,
            )
        finally:
            for task in caring:
                task.cancel()
            await cache.close()

    async def _care_for_libvirtd(self, power: PowerFailure) -> None:
        """libvirtd is restarted by what it runs under; when that ends, all guests have, and this is who is left.

        Raises what `PrivateLibvirtd.start` does, and OSError.
        """
        while True:
            await asyncio.sleep(_CARE_S)
            if not await asyncio.to_thread(self._daemon.is_running):
                log.error("libvirtd is gone, and all guests with it: they are started again", action="libvirtd_gone")
                power.tell()
                await asyncio.to_thread(self._daemon.start)
            await asyncio.to_thread(self._daemon.bound_log)

    def _libvirt_settings(self) -> LibvirtSettings:
        return LibvirtSettings(
            instances_dir=self._layout.instances,
            uri=self._daemon.uri,
            owner=self._machine.host_id,
            accelerator=self.accelerator,
            reserved_ram_mib=_RESERVED_MIB + self._choices.most_guests * _OVERHEAD_MIB[self.accelerator],
            threads=_LIBVIRT_THREADS,
            keep_unknown_s=self._choices.keep_unknown_s,
            qemu_log_dir=self._daemon.qemu_log_dir,
        )


@contextmanager
def opened_host(folder: Path, choices: RealHostChoices) -> Iterator[RealHost]:
    """This machine as the host of the cloud in `folder`, in this thread's network namespace; waits for libvirtd.

    Raises Unsupported (see `requirements`), Invalid (`host_ip` is not here), Conflict (another cloud's host is here),
    Transient.
    """
    check_is_here(choices.host_ip)
    layout = Layout(folder)
    with claimed_namespace(layout):
        machine = this_machine(layout)
        daemon = PrivateLibvirtd(LibvirtdSettings(directory=layout.libvirtd(machine.host_id)))
        try:
            daemon.start()
            verdict = choose_accelerator(ProbeSettings(cache=cache_dir() / "accelerator.json"))
            yield RealHost(layout, machine, daemon, verdict.accelerator, choices)
        finally:
            if not daemon.count_guests():
                take_down(layout, machine)

"""The hosts of a process: any number of simulated ones, and this machine with real guests."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from random import Random
from typing import Protocol
from uuid import UUID, uuid5

from msgspec import Struct

from muster.base.metrics import GUESTS_KEPT, SIM_GUESTS
from muster.bus.protocol import Bus
from muster.domain.reports import GuestState
from muster.host.agent import AgentSettings, HostIdentity, HostParts
from muster.host.boot_settings import AUTOMATIC
from muster.host.group import HostGroup
from muster.host.hypervisor.sim import NullPlumbing, SimHypervisor, SimSettings
from muster.host.ksm import KsmMode
from muster.host.lease_time import LEASE_S
from muster.host.ports import KEEP_UNKNOWN_S, ImageSource

_HOSTS = UUID("5b0c1c5e-8f5a-4c0f-9c57-3d5b8a1f0a01")


class RealHostChoices(Struct, frozen=True, kw_only=True):
    """What its operator decides about this machine as a host.

    `most_guests` is how many may run by their processors, so that what QEMU itself takes is put by for all of them.
    `host_ip` is how other hosts reach this one; networks span hosts only where it is no loopback address. `boots` is
    how many guests boot at a time, as `boot_settings.check_boots` takes it. `ksm`: who decides about the merging of
    equal pages. `lease_time_s`: how long a DHCP lease lasts; guests ask for its renewal at half of it.
    `keep_unknown_s`: how long the disk of a guest is kept that the database does not know.
    """

    most_guests: int
    host_ip: str = "127.0.0.1"
    boots: str = AUTOMATIC
    ksm: KsmMode = KsmMode.AUTO
    lease_time_s: int = LEASE_S
    keep_unknown_s: float = KEEP_UNKNOWN_S


class RealHost(Protocol):
    """A host with real guests, which opens its adapters when the event loop runs."""

    def parts(self, images: ImageSource) -> AbstractAsyncContextManager[HostParts]: ...


@asynccontextmanager
async def running_hosts(
    bus: Bus, parts: Sequence[HostParts], settings: AgentSettings | None = None
) -> AsyncIterator[HostGroup]:
    """These hosts' agents, each listening, until the end of the block; waits for a bus that is away."""
    group = HostGroup(bus, settings=settings)
    try:
        await group.start(parts)
        yield group
    finally:
        await group.close()


def count_simulated_guests(parts: Sequence[HostParts]) -> None:
    """The metric of simulated guests is what these hosts have, whenever it is read."""
    found = [part.hypervisor for part in parts if isinstance(part.hypervisor, SimHypervisor)]
    for state in GuestState:
        SIM_GUESTS.labels(state.value).set_function(partial(_in_state, found, state))
    if found:
        GUESTS_KEPT.labels("simulated").set_function(lambda: sum(len(hypervisor.kept) for hypervisor in found))


def _in_state(hypervisors: Sequence[SimHypervisor], state: GuestState) -> float:
    return sum(hypervisor.count(state) for hypervisor in hypervisors)


def simulated_host(index: int, sim: SimSettings, zone: str) -> HostParts:
    """The simulated host `sim-INDEX`: the same name is the same host, whichever process has it."""
    hostname = f"sim-{index:04d}"
    identity = HostIdentity(
        host_id=str(uuid5(_HOSTS, hostname)),
        hostname=hostname,
        hypervisor_type="sim",
        availability_zone=zone,
        firewall=False,
    )
    hypervisor = SimHypervisor(Random(index), sim)  # noqa: S311 - boot times of simulated guests
    leases = hypervisor.leases() if sim.boot_s else None
    return HostParts(identity=identity, hypervisor=hypervisor, plumbing=NullPlumbing(), leases=leases)

"""`LinuxPlumbing`: the `Plumbing` protocol on a real Linux host.

Invariants: everything blocking runs in two threads (links and rules in one, DHCP in the other), in the network
namespace of the loop's thread; steps of one kind never overlap; a tap is guarded before it is joined, so a guest can
say nothing until its rules stand. One agent per network namespace.
"""

import asyncio
import contextlib
import errno
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from msgspec import Struct

from muster.base.errors import Invalid, Transient
from muster.base.log import get_logger
from muster.domain.specs import NetworkSpec, PortSpec, SecurityGroupSpec
from muster.host.complaint import Complaint
from muster.host.network.checks import uuid_of
from muster.host.network.dhcp import Dhcp
from muster.host.network.firewall import Firewall
from muster.host.network.leases import LeaseSeen, LeaseWatch
from muster.host.network.links import Links
from muster.host.network.settings import NetworkSettings
from muster.host.ports import PlumbedPort

_T = TypeVar("_T")

log = get_logger(__name__)

#: What a host may be short of for a while. Nobody's server is to blame.
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO, errno.EROFS}


class TornDown(Struct, frozen=True, kw_only=True):
    """What was there of Muster's: how many of each, and whether the firewall's tables were."""

    dhcp_servers: int
    bridges: int
    taps: int
    rules: bool


class LinuxPlumbing:
    """Networks of a real host; see `Plumbing` for the contract. Must be made where an event loop runs."""

    def __init__(self, settings: NetworkSettings) -> None:
        self._loop = asyncio.get_running_loop()
        self._links = Links(mtu_max=settings.mtu_max, tap_uid=settings.tap_uid, tunnel_address=settings.tunnel_address)
        self._firewall = Firewall(settings)
        self._dhcp = Dhcp(settings, self._log_opened, self._log_closed)
        self._watch = LeaseWatch(self._dhcp.who)
        self._networks: dict[str, NetworkSpec] = {}
        self._kernel = ThreadPoolExecutor(1, "plumbing-kernel")
        self._servers = ThreadPoolExecutor(1, "plumbing-dhcp")
        self._caring = self._loop.create_task(self._care(settings.check_s), name="network-care")

    async def links(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None:
        """Bridges and taps exist, are up and joined; new taps carry nothing yet.

        Raises Invalid, Conflict, Unsupported, Transient.
        """
        specs = [port.port for port in ports]
        wanted = self._with_theirs(networks, specs)

        def work() -> None:
            self._firewall.guard(wanted, specs)
            self._links.put(wanted, specs)

        await self._run(self._kernel, work)

    async def firewall(self, ports: Sequence[PlumbedPort], groups: Sequence[SecurityGroupSpec]) -> None:
        """Anti-spoofing and group rules stand for these ports. Raises Invalid, Unsupported, Transient."""
        specs = [port.port for port in ports]
        await self._run(self._kernel, lambda: self._firewall.apply(specs, groups))

    async def dhcp(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None:
        """Host entries of these ports are served. Raises Invalid, Unsupported, Transient."""
        wanted = self._with_theirs(networks, [port.port for port in ports])
        await self._run(self._servers, lambda: self._dhcp.put(wanted, ports))

    async def unplug(self, port_ids: Sequence[str]) -> None:
        """DHCP entries, taps and rules of these ports are gone. Raises Invalid, Transient."""
        await self._run(self._servers, lambda: self._dhcp.remove(port_ids))

        def work() -> None:
            # The rules go last: a tap never stands without them.
            self._links.delete_ports(port_ids)
            self._firewall.remove(port_ids)

        await self._run(self._kernel, work)

    async def sweep(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> bool:
        """These are all: everything else of Muster's is removed, what runs is adopted. Raises Invalid, Transient.

        False if a tap that goes is still open; it is shut.
        """
        self._networks = {uuid_of(network.id): network for network in networks}
        specs = [port.port for port in ports]
        kept = self._with_theirs(networks, specs)
        await self._run(self._servers, lambda: self._dhcp.keep(networks, ports))

        def work() -> bool:
            all_gone = self._links.keep([network.id for network in kept], [port.id for port in specs])
            self._firewall.keep(kept, specs)
            return all_gone

        return await self._run(self._kernel, work)

    def leases(self) -> AsyncIterator[LeaseSeen]:
        """Leases as guests get and renew them, until `close`; for one consumer. Some may be lost under load."""
        return self._watch.leases()

    async def teardown(self) -> TornDown:
        """Nothing of Muster's is left: DHCP servers, interfaces, tables; what there was of them. Raises Transient."""
        n_servers = await self._run(self._servers, self._dhcp.teardown)

        def work() -> TornDown:
            bridges, taps = self._links.bridges(), self._links.taps()
            self._links.keep([], [])
            rules = self._firewall.teardown()
            return TornDown(dhcp_servers=n_servers, bridges=len(bridges), taps=len(taps), rules=rules)

        self._networks = {}
        return await self._run(self._kernel, work)

    async def close(self) -> None:
        """Leave; bridges, rules and DHCP servers keep working."""
        self._caring.cancel()

        def work() -> None:
            self._links.close()
            self._firewall.close()

        with contextlib.suppress(RuntimeError):  # closed before
            await self._run(self._kernel, work)
        self._watch.close()
        for pool in (self._kernel, self._servers):  # a DHCP server that does not answer is waited for
            await self._loop.run_in_executor(None, pool.shutdown)

    async def _care(self, every_s: float) -> None:
        """A DHCP server that dies is missed by nobody until leases run out, rules that go until somebody is robbed."""
        looks = (
            ("DHCP servers", self._servers, self._dhcp.revive, Complaint()),
            ("firewall", self._kernel, self._firewall.check, Complaint()),
        )
        while True:
            await asyncio.sleep(every_s)
            for what, where, work, complaint in looks:
                try:
                    await self._run(where, work)
                except Exception as error:  # the next look may do better
                    if complaint.due(self._loop.time()):
                        log.error("not looked after", action="host.network.check", what=what, error=repr(error))
                else:
                    complaint.over()

    def _with_theirs(self, networks: Sequence[NetworkSpec], ports: Sequence[PortSpec]) -> list[NetworkSpec]:
        """These networks, and those of the ports as they were given last. Raises Invalid when one is not known."""
        self._networks |= {uuid_of(network.id): network for network in networks}
        wanted = {uuid_of(network.id) for network in networks} | {uuid_of(port.network_id) for port in ports}
        if unknown := wanted - self._networks.keys():
            raise Invalid(f"ports of a network that is not known here: {', '.join(sorted(unknown))}")
        return [self._networks[network_id] for network_id in sorted(wanted)]

    async def _run(self, where: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
        try:
            return await self._loop.run_in_executor(where, work)
        except OSError as error:
            if error.errno in _PASSING:
                raise Transient(f"the host is short of something: {error}", retry_after_s=5.0) from error
            raise

    def _log_opened(self, network_id: str, file: int) -> None:
        self._loop.call_soon_threadsafe(self._watch.open, network_id, file)

    def _log_closed(self, network_id: str) -> None:
        self._loop.call_soon_threadsafe(self._watch.forget, network_id)

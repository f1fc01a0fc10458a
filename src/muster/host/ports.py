"""The protocols between the agent and its adapters: the reconciler is the same over simulated and real hosts."""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from muster.domain.diagnostics import Diagnostics
from muster.domain.reports import Fault, GuestState, HostCapacity
from muster.domain.specs import ImageSpec, NetworkSpec, PortSpec, SecurityGroupSpec, ServerSpec

#: How long a guest that is kept (`Hypervisor.keep`) is kept, if nobody says otherwise.
KEEP_UNKNOWN_S = 7 * 86_400.0


class Guest(Struct, frozen=True, kw_only=True):
    """A server as its hypervisor has it. The nonces are those that it was made and last booted with."""

    server_id: str
    state: GuestState
    boot_nonce: int = 0
    disk_nonce: int = 0


class GuestEvent(Struct, frozen=True):
    """A guest changed by itself or as asked: started, stopped, crashed, gone. PENDING: what it was put off for is
    there, or will not come."""

    server_id: str
    state: GuestState


class Outcome(Struct, frozen=True):
    """What became of one item of a batch: done, failed with `fault`, or (nothing is wrong with it) to be tried again
    after `retry_after_s`."""

    server_id: str
    fault: Fault | None = None
    retry_after_s: float | None = None


class Stranger(Struct, frozen=True):
    """A guest whose server nobody knows any more, with what was known of it, if that is still known."""

    server_id: str
    spec: ServerSpec | None = None


class Hypervisor(Protocol):
    """Runs guests. Every method takes a batch; one guest's failure never fails the others of its batch."""

    async def capacity(self) -> HostCapacity: ...

    async def observe(self) -> Mapping[str, Guest]:
        """All guests and leftovers of guests (a disk without a domain counts as STOPPED) by server id; one call."""
        ...

    async def fetch(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        """The images that `prepare` needs for new disks are here. Idempotent."""
        ...

    async def prepare(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        """Disks (linked clones of the image), config drives: all that a start needs. Idempotent."""
        ...

    async def start(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        """Start what is prepared. Idempotent: one that runs with the asked nonces is left alone."""
        ...

    async def replug(self, servers: Sequence[ServerSpec]) -> list[Outcome]:
        """Guests that run have network cards for exactly their server's ports; one that does not run is left alone.

        Idempotent: guided by the cards that are there. A guest that does not let a card go in time is put off.
        """
        ...

    async def stop(self, server_ids: Sequence[str], *, hard: bool) -> list[Outcome]: ...

    async def remove(self, server_ids: Sequence[str]) -> list[Outcome]:
        """Destroy the guests with their disks and all other traces. Idempotent."""
        ...

    async def keep(self, strangers: Sequence[Stranger]) -> list[Outcome]:
        """End these guests and put their disks aside for a while: they are observed no more. Idempotent.

        `prepare` takes one back, with its disk.
        """
        ...

    async def console_output(self, server_id: str, n_lines: int | None) -> str: ...

    async def diagnostics(self, server_id: str) -> Diagnostics:
        """What a guest takes. Raises NotFound, or Conflict for one that does not run."""
        ...

    def events(self) -> AsyncIterator[GuestEvent]: ...

    async def close(self) -> None:
        """Leave; guests keep running."""
        ...


class ImageSource(Protocol):
    """Where a host gets an image's file from."""

    async def fetch(self, image: ImageSpec, target: Path) -> None:
        """Write the image to `target`. Raises NotFound, or Transient when trying again makes sense."""
        ...


class PlumbedPort(Struct, frozen=True):
    """A port to be plumbed, and the server that it belongs to."""

    server_id: str
    hostname: str
    port: PortSpec


class Plumbing(Protocol):
    """Networks of a host. All methods are idempotent, take batches and are safe to call again after a crash.

    What a network or group is told to be last counts, whatever its generation: that is the agent's affair.
    Order for a new server: `links`, then `firewall` and `dhcp`, then the hypervisor's start; removal is the reverse.
    The same holds for one port of a guest that runs, with `Hypervisor.replug` in place of the start.
    """

    async def links(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None:
        """Bridges and taps exist, are up and joined; one netlink conversation for the batch."""
        ...

    async def firewall(self, ports: Sequence[PlumbedPort], groups: Sequence[SecurityGroupSpec]) -> None:
        """Anti-spoofing and group rules stand for these ports; `groups` are new or changed. One nft transaction."""
        ...

    async def dhcp(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None:
        """Host entries for these ports are served by their network's DHCP server; one update per network."""
        ...

    async def unplug(self, port_ids: Sequence[str]) -> None:
        """DHCP entries, rules and taps of these ports are gone."""
        ...

    async def sweep(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> bool:
        """These are ALL that should be: remove every other tap, rule, DHCP entry, DHCP server and bridge of Muster's.
        A tap that a guest still has open is shut and left for a later sweep; False if there was such a tap.
        Also takes up again what an earlier process left running (DHCP servers)."""
        ...

    async def close(self) -> None:
        """Leave; bridges, rules and DHCP servers keep working."""
        ...

"""Hosts as administrators see them: hypervisors, and the compute services that run on them. Pure."""

from collections.abc import Sequence

from msgspec import Struct

# How many hexadecimal digits of a host's UUID make the number that microversions below 2.53 call it by: 52 bits.
_LEGACY_DIGITS = 13


class Hypervisor(Struct, frozen=True, kw_only=True):
    """A host: what it has, what is claimed of it, and whether it may get servers. `updated_at`: its agent's start."""

    id: str
    hostname: str
    hypervisor_type: str
    hypervisor_version: int
    host_ip: str
    cpu_info: str
    availability_zone: str
    vcpus: int
    ram_mib: int
    disk_gib: int
    reserved_ram_mib: int
    vcpus_used: int
    ram_used_mib: int
    disk_used_gib: int
    servers_used: int
    disabled: bool
    disabled_reason: str | None
    forced_down: bool
    last_seen_at: float
    created_at: float
    updated_at: float

    @property
    def ram_taken_mib(self) -> int:
        """Claims, and what the host keeps for itself."""
        return self.reserved_ram_mib + self.ram_used_mib

    def is_up(self, seen_after: float) -> bool:
        """Whether the host was heard of since `seen_after`, and nobody said that it is down."""
        return not self.forced_down and self.last_seen_at >= seen_after


class HypervisorQuery(Struct, frozen=True, kw_only=True):
    """What a list of hypervisors asks for: a page by name, or all whose name has a part."""

    limit: int | None = None
    marker: str | None = None
    hostname_part: str | None = None


class Statistics(Struct, frozen=True, kw_only=True):
    """All enabled hosts together."""

    count: int
    vcpus: int
    ram_mib: int
    disk_gib: int
    vcpus_used: int
    ram_taken_mib: int
    disk_used_gib: int
    servers_used: int


class Guest(Struct, frozen=True):
    """A server on a host, by name."""

    id: str
    name: str


class Share(Struct, frozen=True):
    """What a project's servers take of a host."""

    project_id: str
    vcpus: int
    ram_mib: int
    disk_gib: int


class Zone(Struct, frozen=True):
    """An availability zone with its hosts. It is available while one of them is enabled."""

    name: str
    hosts: tuple[Hypervisor, ...]

    @property
    def available(self) -> bool:
        """As Nova has it: hosts that are silent count, disabled ones do not."""
        return any(not host.disabled for host in self.hosts)


def zones_of(hosts: Sequence[Hypervisor]) -> list[Zone]:
    """The zones of these hosts, by name."""
    members: dict[str, list[Hypervisor]] = {}
    for host in hosts:
        members.setdefault(host.availability_zone, []).append(host)
    return [Zone(name, tuple(members[name])) for name in sorted(members)]


def legacy_id(host_id: str) -> int:
    """The number of a host in microversions that know no UUIDs of hosts. The same host always has the same."""
    return int(host_id.replace("-", "")[:_LEGACY_DIGITS], 16)


def id_prefix(legacy: int) -> str | None:
    """How the UUID of the host with this number begins; None for no host's number."""
    digits = f"{legacy:0{_LEGACY_DIGITS}x}"
    if len(digits) != _LEGACY_DIGITS:
        return None
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:]}"

"""What a lab is made of: its parts, their names and addresses. Pure: the same settings give the same plan."""

from enum import StrEnum
from ipaddress import IPv4Network
from itertools import accumulate
from typing import Annotated

from msgspec import Meta, Struct

from muster.base.errors import Invalid

API_PORT = 8774
REAL_ZONE, SIM_ZONE = "nova", "sim"
ETCD_MEMBERS = 3
_SIM_PROCESSES_MAX = 40
_REAL_HOSTS_MAX = 40
_MACHINES_MAX = 50
# The last number of each part's address; a lab's subnet is a /24.
_CALLER, _POSTGRESQL, _ETCD, _RABBITMQ, _CONTROL, _SIM, _REAL = 1, 2, 3, 9, 11, 101, 151


class Kind(StrEnum):
    """What a part is."""

    POSTGRESQL = "postgresql"
    ETCD = "etcd"
    RABBITMQ = "rabbitmq"
    CONTROL = "control"
    SIM_HOSTS = "simulated hosts"
    REAL_HOST = "real host"


ENGINES = frozenset({Kind.POSTGRESQL, Kind.ETCD, Kind.RABBITMQ})
HOSTS = frozenset({Kind.SIM_HOSTS, Kind.REAL_HOST})


class LabSettings(Struct, frozen=True, kw_only=True):
    """How large a lab is: `workers` are spread over `machines`, `sim_hosts` over `sim_processes`.

    A simulated guest boots for `sim_boot_s`; a worker that is silent for `lock_lease_s` loses its locks. `guest_image`
    is the built test guest's file; without one, the image `guest` is an empty disk. With `own_images` each control
    machine keeps images of its own and fetches what it lacks from the others; without, all have one folder.
    """

    workers: Annotated[int, Meta(ge=1)] = 2
    machines: Annotated[int, Meta(ge=1, le=_MACHINES_MAX)] = 1
    sim_hosts: Annotated[int, Meta(ge=0)] = 20
    sim_processes: Annotated[int, Meta(ge=1, le=_SIM_PROCESSES_MAX)] = 1
    sim_boot_s: Annotated[float, Meta(ge=0)] = 0.0
    real_hosts: Annotated[int, Meta(ge=0, le=_REAL_HOSTS_MAX)] = 0
    lock_lease_s: Annotated[int, Meta(ge=1)] = 10
    guest_image: str = ""
    own_images: bool = False


class Part(Struct, frozen=True, kw_only=True):
    """One part, which has a network namespace to itself. `size` is how many workers or hosts it runs, `first` the
    number of the first of them (workers count from 1, simulated hosts from 0).
    """

    name: str
    kind: Kind
    address: str
    size: int = 1
    first: int = 1

    @property
    def workers(self) -> list[str]:
        """The names of its workers."""
        return [f"worker-{self.first + i}" for i in range(self.size)] if self.kind is Kind.CONTROL else []


class Plan(Struct, frozen=True, kw_only=True):
    """A lab: `lab_id` is in the names of all that the kernel has of it; `subnet` is a /24 of its own."""

    lab_id: str
    subnet: str
    settings: LabSettings
    parts: tuple[Part, ...]

    @property
    def caller_address(self) -> str:
        """The address of the network namespace in which the lab was called for."""
        return _address(self.subnet, _CALLER)

    @property
    def zones(self) -> dict[Kind, str]:
        """The availability zone of each kind of host: beside real hosts, simulated ones have a zone of their own."""
        return {Kind.REAL_HOST: REAL_ZONE, Kind.SIM_HOSTS: SIM_ZONE if self.settings.real_hosts else REAL_ZONE}

    def of(self, *kinds: Kind) -> list[Part]:
        """The parts of these kinds."""
        return [part for part in self.parts if part.kind in kinds]


def make_plan(lab_id: str, subnet: str, settings: LabSettings) -> Plan:
    """The plan of a lab. Raises Invalid when a number does not fit the others."""
    if settings.workers < settings.machines:
        raise Invalid(f"{settings.machines} control machines need as many workers at least, not {settings.workers}")
    if settings.sim_hosts and settings.sim_hosts < settings.sim_processes:
        raise Invalid(f"{settings.sim_hosts} simulated hosts cannot be spread over {settings.sim_processes} processes")

    def part(kind: Kind, number: int, name: str, size: int = 1, first: int = 1) -> Part:
        return Part(name=name, kind=kind, address=_address(subnet, number), size=size, first=first)

    workers = _spread(settings.workers, settings.machines)
    hosts = _spread(settings.sim_hosts, settings.sim_processes)
    parts = [
        part(Kind.POSTGRESQL, _POSTGRESQL, "postgresql"),
        *(part(Kind.ETCD, _ETCD + i, f"etcd-{i + 1}") for i in range(ETCD_MEMBERS)),
        part(Kind.RABBITMQ, _RABBITMQ, "rabbitmq"),
        *(part(Kind.CONTROL, _CONTROL + i, f"control-{i + 1}", n, 1 + at) for i, (n, at) in enumerate(workers)),
        *(part(Kind.SIM_HOSTS, _SIM + i, f"sim-{i + 1}", n, at) for i, (n, at) in enumerate(hosts) if n),
        *(part(Kind.REAL_HOST, _REAL + i, f"host-{i + 1}") for i in range(settings.real_hosts)),
    ]
    return Plan(lab_id=lab_id, subnet=subnet, settings=settings, parts=tuple(parts))


def _spread(things: int, places: int) -> list[tuple[int, int]]:
    """How many things each place has, and how many are before it."""
    counts = [things // places + (i < things % places) for i in range(places)]
    return list(zip(counts, [0, *accumulate(counts)], strict=False))


def _address(subnet: str, number: int) -> str:
    return str(IPv4Network(subnet)[number])

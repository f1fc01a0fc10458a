"""What a guest takes of its host, counted by its hypervisor since the guest's start; None where it does not count."""

from msgspec import Struct


class DiskCounts(Struct, frozen=True, kw_only=True):
    """A disk, by the name that the hypervisor has for it."""

    name: str
    read_bytes: int | None = None
    read_requests: int | None = None
    write_bytes: int | None = None
    write_requests: int | None = None


class CardCounts(Struct, frozen=True, kw_only=True):
    """A network card, as the guest sees it: `rx` is what it received."""

    name: str
    mac_address: str | None = None
    rx_octets: int | None = None
    rx_packets: int | None = None
    rx_errors: int | None = None
    rx_drop: int | None = None
    tx_octets: int | None = None
    tx_packets: int | None = None
    tx_errors: int | None = None
    tx_drop: int | None = None


class Diagnostics(Struct, frozen=True, kw_only=True):
    """Of a guest that runs. `hypervisor` is what runs it: kvm, qemu, or sim."""

    hypervisor: str
    paused: bool = False
    ram_max_mib: int | None = None
    ram_used_mib: int | None = None
    cpu_times_ns: tuple[int | None, ...] = ()
    cards: tuple[CardCounts, ...] = ()
    disks: tuple[DiskCounts, ...] = ()

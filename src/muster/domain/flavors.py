"""Flavors: sizes of servers."""

from msgspec import Struct


class Flavor(Struct, frozen=True, kw_only=True):
    """A flavor as it is."""

    id: str
    name: str
    vcpus: int
    ram_mib: int
    disk_gib: int = 0
    ephemeral_gib: int = 0
    swap_mib: int = 0
    rxtx_factor: float = 1.0
    is_public: bool = True
    disabled: bool = False
    description: str | None = None
    extra_specs: dict[str, str] = {}


# What a fresh cloud offers: the sizes that everybody's scripts know, and one for the test guest.
DEFAULT_FLAVORS = (
    Flavor(id="1", name="m1.tiny", vcpus=1, ram_mib=512, disk_gib=1),
    Flavor(id="2", name="m1.small", vcpus=1, ram_mib=2_048, disk_gib=20),
    Flavor(id="3", name="m1.medium", vcpus=2, ram_mib=4_096, disk_gib=40),
    Flavor(id="4", name="m1.large", vcpus=4, ram_mib=8_192, disk_gib=80),
    Flavor(id="5", name="m1.xlarge", vcpus=8, ram_mib=16_384, disk_gib=160),
    Flavor(id="guest.tiny", name="guest.tiny", vcpus=1, ram_mib=128),
)

"""The machine: firmware, SMBIOS, features, processor, clock."""

from typing import ClassVar

from muster.host.hypervisor.libvirt.domainxml.node import Node, Text


class HvmType(Node, frozen=True, kw_only=True):
    """Full virtualization of a machine type."""

    TAG: ClassVar[str] = "type"
    arch: str = "x86_64"
    machine: str
    text: str = "hvm"


class Loader(Node, frozen=True, kw_only=True, rename={"kind": "type"}):
    """UEFI's code, shared by all guests."""

    TAG: ClassVar[str] = "loader"
    readonly: str = "yes"
    kind: str = "pflash"
    text: str


class Nvram(Node, frozen=True, kw_only=True):
    """UEFI's variables, a file per guest, made from the template at its first start."""

    TAG: ClassVar[str] = "nvram"
    template: str
    text: str


class Boot(Node, frozen=True, kw_only=True):
    TAG: ClassVar[str] = "boot"
    dev: str = "hd"


class Smbios(Node, frozen=True, kw_only=True):
    TAG: ClassVar[str] = "smbios"
    mode: str = "sysinfo"


class Os(Node, frozen=True, kw_only=True):
    """What the guest boots with."""

    TAG: ClassVar[str] = "os"
    hvm: HvmType
    loader: Loader | None = None
    nvram: Nvram | None = None
    boot: Boot = Boot()
    smbios: Smbios = Smbios()


class Entry(Node, frozen=True, kw_only=True):
    TAG: ClassVar[str] = "entry"
    name: str
    text: str


class System(Node, frozen=True, kw_only=True):
    TAG: ClassVar[str] = "system"
    entries: tuple[Entry, ...]


class Sysinfo(Node, frozen=True, kw_only=True, rename={"kind": "type"}):
    """What the guest reads about its maker; cloud-init recognises OpenStack by the product's name."""

    TAG: ClassVar[str] = "sysinfo"
    kind: str = "smbios"
    system: System


class Tcg(Node, frozen=True, kw_only=True, rename={"tb_cache": "tb-cache"}):
    """QEMU's emulation: its translation cache is most of a small guest's memory unless bounded."""

    TAG: ClassVar[str] = "tcg"
    tb_cache: Text


class Features(Node, frozen=True, kw_only=True):
    TAG: ClassVar[str] = "features"
    acpi: Text = Text()
    apic: Text = Text()
    tcg: Tcg | None = None


class CpuFeature(Node, frozen=True, kw_only=True):
    TAG: ClassVar[str] = "feature"
    policy: str = "require"
    name: str


class Cpu(Node, frozen=True, kw_only=True):
    """The processor: the host's, or a model of libvirt's list with features on top."""

    TAG: ClassVar[str] = "cpu"
    mode: str
    match: str | None = None
    model: Text | None = None
    features: tuple[CpuFeature, ...] = ()


class Timer(Node, frozen=True, kw_only=True):
    TAG: ClassVar[str] = "timer"
    name: str
    tickpolicy: str | None = None
    present: str | None = None


class Clock(Node, frozen=True, kw_only=True):
    """UTC; timers as Nova sets them: lost ticks are caught up with, no HPET, which costs interrupts."""

    TAG: ClassVar[str] = "clock"
    offset: str = "utc"
    timers: tuple[Timer, ...] = (
        Timer(name="rtc", tickpolicy="catchup"),
        Timer(name="pit", tickpolicy="delay"),
        Timer(name="hpet", present="no"),
    )

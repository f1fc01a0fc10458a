"""The guest's devices."""

from typing import ClassVar

from muster.host.hypervisor.libvirt.domainxml.node import Node, Text


class Driver(Node, frozen=True, kw_only=True, rename={"kind": "type"}):
    TAG: ClassVar[str] = "driver"
    name: str = "qemu"
    kind: str | None = None
    cache: str | None = None
    discard: str | None = None


class FileSource(Node, frozen=True, kw_only=True):
    TAG: ClassVar[str] = "source"
    file: str


class Format(Node, frozen=True, kw_only=True, rename={"kind": "type"}):
    TAG: ClassVar[str] = "format"
    kind: str


class BackingStore(Node, frozen=True, kw_only=True, rename={"kind": "type"}):
    """What is below a disk's image. The empty one ends the chain: said in full, libvirt and QEMU look no further."""

    TAG: ClassVar[str] = "backingStore"
    kind: str | None = None
    format: Format | None = None
    source: FileSource | None = None
    below: "BackingStore | None" = None


class Target(Node, frozen=True, kw_only=True):
    """A name: of a disk inside the guest, or of a tap on the host, which is `managed` by whoever made it."""

    TAG: ClassVar[str] = "target"
    dev: str
    bus: str | None = None
    managed: str | None = None


class Disk(Node, frozen=True, kw_only=True, rename={"kind": "type"}):
    TAG: ClassVar[str] = "disk"
    kind: str = "file"
    device: str = "disk"
    driver: Driver
    source: FileSource
    backing: BackingStore
    target: Target
    readonly: Text | None = None
    serial: Text | None = None


class Mac(Node, frozen=True, kw_only=True):
    TAG: ClassVar[str] = "mac"
    address: str


class Model(Node, frozen=True, kw_only=True, rename={"kind": "type"}):
    TAG: ClassVar[str] = "model"
    kind: str = "virtio"


class Rom(Node, frozen=True, kw_only=True):
    """The network card's boot ROM: off, since it costs boot time and nothing boots from the network."""

    TAG: ClassVar[str] = "rom"
    enabled: str = "no"


class Interface(Node, frozen=True, kw_only=True, rename={"kind": "type"}):
    """A network card on a tap that stands already."""

    TAG: ClassVar[str] = "interface"
    kind: str = "ethernet"
    mac: Mac
    target: Target
    model: Model = Model()
    rom: Rom = Rom()


class LogSource(Node, frozen=True, kw_only=True):
    """A file to write to. Appending keeps what an earlier boot said, and lets the file be cut while it is open."""

    TAG: ClassVar[str] = "source"
    path: str
    append: str = "on"


class Serial(Node, frozen=True, kw_only=True, rename={"kind": "type"}):
    TAG: ClassVar[str] = "serial"
    kind: str = "file"
    source: LogSource


class Controller(Node, frozen=True, kw_only=True, rename={"kind": "type"}):
    """A controller; model `none` leaves out one that libvirt would add."""

    TAG: ClassVar[str] = "controller"
    kind: str
    model: str | None = None


class RngBackend(Node, frozen=True, kw_only=True):
    TAG: ClassVar[str] = "backend"
    model: str = "random"
    text: str = "/dev/urandom"


class Rng(Node, frozen=True, kw_only=True):
    """Randomness from the host: a guest without it waits for entropy before its ssh server answers."""

    TAG: ClassVar[str] = "rng"
    model: str = "virtio"
    backend: RngBackend = RngBackend()


class Memballoon(Node, frozen=True, kw_only=True, rename={"free_page_reporting": "freePageReporting"}):
    """Gives memory that the guest has freed back to the host, without being asked to."""

    TAG: ClassVar[str] = "memballoon"
    model: str = "virtio"
    free_page_reporting: str = "on"


class Devices(Node, frozen=True, kw_only=True):
    TAG: ClassVar[str] = "devices"
    emulator: Text | None = None
    controllers: tuple[Controller, ...] = (Controller(kind="usb", model="none"),)
    disks: tuple[Disk, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    serial: Serial
    rng: Rng = Rng()
    memballoon: Memballoon = Memballoon()

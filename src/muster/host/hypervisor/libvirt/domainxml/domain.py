"""The domain as a whole, and the mark by which Muster knows its own."""

from typing import ClassVar

from muster.host.hypervisor.libvirt.domainxml.devices import Devices
from muster.host.hypervisor.libvirt.domainxml.machine import Clock, Cpu, Features, Os, Sysinfo
from muster.host.hypervisor.libvirt.domainxml.node import Node, Text

#: Of the element below `<metadata>`.
NAMESPACE = "urn:muster:guest:1"
#: libvirt's, for what concerns QEMU alone. Source: drvqemu.html.
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"


class Mark(Node, frozen=True, kw_only=True):
    """Whose guest this is, and with which nonces it was started."""

    TAG: ClassVar[str] = f"{{{NAMESPACE}}}guest"
    owner: str
    server: str
    boot_nonce: int
    disk_nonce: int


class Metadata(Node, frozen=True, kw_only=True):
    TAG: ClassVar[str] = "metadata"
    mark: Mark


class Del(Node, frozen=True, kw_only=True):
    """A capability of QEMU that libvirt shall not use."""

    TAG: ClassVar[str] = f"{{{QEMU_NAMESPACE}}}del"
    capability: str


class Capabilities(Node, frozen=True, kw_only=True):
    """libvirt's own view of what QEMU can do, corrected."""

    TAG: ClassVar[str] = f"{{{QEMU_NAMESPACE}}}capabilities"
    deleted: tuple[Del, ...]


class Domain(Node, frozen=True, kw_only=True, rename={"kind": "type"}):
    """A transient domain: it lives as long as its guest runs, and a crash ends it, so that nothing is half there."""

    TAG: ClassVar[str] = "domain"
    kind: str
    name: Text
    uuid: Text
    metadata: Metadata
    memory: Text
    vcpu: Text
    sysinfo: Sysinfo
    os: Os
    features: Features
    cpu: Cpu
    clock: Clock = Clock()
    on_poweroff: Text = Text("destroy")
    on_reboot: Text = Text("restart")
    on_crash: Text = Text("destroy")
    devices: Devices
    capabilities: Capabilities | None = None

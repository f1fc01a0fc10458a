"""From a server to its domain: pure, so that what a guest is made of can be read and tested without libvirt.

Invariants: equal input gives equal XML; what a user chose (name, metadata, user data) is nowhere in it.
"""

import re
import xml.etree.ElementTree as ET

from muster.base.errors import Invalid
from muster.base.ids import is_uuid
from muster.domain.specs import PortSpec, ServerSpec
from muster.host.hypervisor.libvirt.domainxml import devices, domain, machine
from muster.host.hypervisor.libvirt.domainxml.node import Text
from muster.host.hypervisor.libvirt.folder import Folder, Record
from muster.host.hypervisor.libvirt.settings import Accelerator, DriveBus, Firmware, LibvirtSettings
from muster.host.names import tap_name

_PREFIX = "muster-"
# With this capability libvirt asks QEMU for each property of the guest's processor by a command of its own; without
# it, for all features by two.
_FEW_QUESTIONS = domain.Capabilities(deleted=(domain.Del(capability="cpu-unavailable-features"),))
# QEMU's plainest processor with these is an x86-64-v2 one, without which many images of today end at once (RHEL 9 and
# its kin). Emulating them costs nothing that could be measured.
_EMULATED = "qemu64"
_EMULATED_FEATURES = ("cx16", "lahf_lm", "popcnt", "sse4.1", "sse4.2", "ssse3")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


def domain_name(server_id: str) -> str:
    """The domain's name, as `virsh list` shows it."""
    return _PREFIX + server_id


def define(server: ServerSpec, record: Record, folder: Folder, settings: LibvirtSettings) -> domain.Domain:
    """The domain of a prepared server. Raises Invalid when an id or a MAC is none."""
    if not is_uuid(server.id):
        raise Invalid(f"{server.id!r} is not a UUID")
    mark = domain.Mark(
        owner=settings.owner, server=server.id, boot_nonce=server.boot_nonce, disk_nonce=record.disk_nonce
    )
    return domain.Domain(
        kind="kvm" if settings.accelerator is Accelerator.KVM else "qemu",
        name=Text(domain_name(server.id)),
        uuid=Text(server.id),
        metadata=domain.Metadata(mark=mark),
        memory=Text(server.ram_mib, unit="MiB"),
        vcpu=Text(server.vcpus),
        sysinfo=_sysinfo(server),
        os=_os(folder, settings),
        features=_features(settings),
        cpu=_cpu(settings),
        devices=_devices(server, record, folder, settings),
        capabilities=_FEW_QUESTIONS if settings.few_cpu_questions else None,
    )


def read_mark(xml: str) -> domain.Mark | None:
    """The mark in a domain's XML (as libvirt gives it), or None for a domain that is not Muster's."""
    found = ET.fromstring(xml).find(f"./metadata/{domain.Mark.TAG}")  # noqa: S314  # from libvirt, which has parsed it
    if found is None:
        return None
    try:
        return domain.Mark(
            owner=found.attrib["owner"],
            server=found.attrib["server"],
            boot_nonce=int(found.attrib["boot_nonce"]),
            disk_nonce=int(found.attrib["disk_nonce"]),
        )
    except (KeyError, ValueError):
        return None


def _sysinfo(server: ServerSpec) -> machine.Sysinfo:
    entries = {"manufacturer": "Muster", "product": "OpenStack Compute", "uuid": server.id}
    return machine.Sysinfo(
        system=machine.System(entries=tuple(machine.Entry(name=name, text=text) for name, text in entries.items()))
    )


def _os(folder: Folder, settings: LibvirtSettings) -> machine.Os:
    hvm = machine.HvmType(machine=settings.machine)
    if settings.firmware is Firmware.BIOS:
        return machine.Os(hvm=hvm)
    return machine.Os(
        hvm=hvm,
        loader=machine.Loader(text=str(settings.uefi_loader)),
        nvram=machine.Nvram(template=str(settings.uefi_variables), text=str(folder.variables)),
    )


def _features(settings: LibvirtSettings) -> machine.Features:
    if settings.accelerator is Accelerator.KVM:
        return machine.Features()
    return machine.Features(tcg=machine.Tcg(tb_cache=Text(settings.tb_cache_mib, unit="MiB")))


def _cpu(settings: LibvirtSettings) -> machine.Cpu:
    name = settings.cpu or ("host-model" if settings.accelerator is Accelerator.KVM else _EMULATED)
    if name in ("host-passthrough", "host-model"):
        return machine.Cpu(mode=name)
    features = settings.cpu_features + (() if settings.cpu else _EMULATED_FEATURES)
    required = tuple(machine.CpuFeature(name=feature) for feature in features)
    return machine.Cpu(mode="custom", match="exact", model=Text(name), features=required)


def _devices(server: ServerSpec, record: Record, folder: Folder, settings: LibvirtSettings) -> devices.Devices:
    disks = [_root_disk(server, record, folder, settings)]
    if record.config_drive:
        disks.append(_config_drive(folder, settings))
    return devices.Devices(
        emulator=Text(settings.emulator) if settings.emulator else None,
        disks=tuple(disks),
        interfaces=tuple(interface(port) for port in server.ports),
        serial=devices.Serial(source=devices.LogSource(path=str(folder.console))),
    )


def _root_disk(server: ServerSpec, record: Record, folder: Folder, settings: LibvirtSettings) -> devices.Disk:
    backing = devices.BackingStore(
        kind="file",
        format=devices.Format(kind=record.base_format),
        source=devices.FileSource(file=record.base),
        below=devices.BackingStore(),
    )
    return devices.Disk(
        driver=devices.Driver(kind="qcow2", cache=settings.disk_cache, discard="unmap"),
        source=devices.FileSource(file=str(folder.disk)),
        backing=backing,
        target=devices.Target(dev="vda", bus="virtio"),
        # What a guest finds as /dev/disk/by-id; virtio's serial holds 20 characters.
        serial=Text(server.id.replace("-", "")[:20]),
    )


def _config_drive(folder: Folder, settings: LibvirtSettings) -> devices.Disk:
    virtio = settings.drive_bus is DriveBus.VIRTIO
    # q35 has no IDE.
    sata = settings.machine.startswith(("q35", "pc-q35"))
    cdrom = devices.Target(dev="sda", bus="sata") if sata else devices.Target(dev="hda", bus="ide")
    return devices.Disk(
        device="disk" if virtio else "cdrom",
        driver=devices.Driver(kind="raw"),
        source=devices.FileSource(file=str(folder.config_drive)),
        backing=devices.BackingStore(),
        target=devices.Target(dev="vdb", bus="virtio") if virtio else cdrom,
        readonly=Text(),
    )


def interface(port: PortSpec) -> devices.Interface:
    """The network card of a port. Raises Invalid when its id or its MAC is none."""
    mac = port.mac_address.lower()
    if not _MAC.fullmatch(mac) or not is_uuid(port.id):
        raise Invalid(f"port {port.id!r} has no valid id or MAC address")
    return devices.Interface(mac=devices.Mac(address=mac), target=devices.Target(dev=tap_name(port.id), managed="no"))

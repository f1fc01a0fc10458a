"""The XML of domains, against files to be read by people. `MUSTER_WRITE_GOLDEN=1` writes them anew."""

import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from muster.base.errors import Invalid
from muster.domain.specs import ImageSpec, PortSpec, Power, ServerSpec
from muster.host.hypervisor.libvirt.definition import define, interface, read_mark
from muster.host.hypervisor.libvirt.domainxml import devices, domain, machine
from muster.host.hypervisor.libvirt.domainxml.domain import Domain
from muster.host.hypervisor.libvirt.domainxml.node import Node, Text, render
from muster.host.hypervisor.libvirt.folder import Folder, Record
from muster.host.hypervisor.libvirt.settings import Accelerator, DriveBus, Firmware, LibvirtSettings

HERE = Path(__file__).parent
SERVER = ServerSpec(
    id="6f1ed002-ab5d-4a0c-8d6f-1d1f7a9a7f10",
    generation=4,
    project_id="project",
    user_id="user",
    name="a <b> & \"c\" 'd' ]]>",
    hostname="a-b",
    power=Power.RUNNING,
    boot_nonce=5,
    disk_nonce=2,
    vcpus=2,
    ram_mib=512,
    image=ImageSpec(id="1", disk_format="qcow2", size_bytes=1, sha512="0" * 128),
    ports=(
        PortSpec(id="11111111-2222-4333-8444-555555555555", network_id="n", mac_address="FA:16:3E:00:00:01"),
        PortSpec(id="21111111-2222-4333-8444-555555555555", network_id="m", mac_address="fa:16:3e:00:00:02"),
    ),
)
RECORD = Record(
    boot_nonce=5, disk_nonce=2, base="/images/base.qcow2", base_format="qcow2", image_sha512="", config_drive=True
)
SETTINGS = LibvirtSettings(instances_dir=Path("/instances"), owner="host-1")
FOLDER = Folder(SETTINGS.instances_dir, SERVER.id)


def tcg() -> Domain:
    return define(SERVER, RECORD, FOLDER, msgspec.structs.replace(SETTINGS, accelerator=Accelerator.TCG))


def kvm_uefi_cdrom() -> Domain:
    settings = msgspec.structs.replace(
        SETTINGS,
        machine="q35",
        firmware=Firmware.UEFI,
        drive_bus=DriveBus.CDROM,
        emulator="/usr/bin/qemu-system-x86_64",
    )
    return define(SERVER, RECORD, FOLDER, settings)


def kvm_plain() -> Domain:
    server = msgspec.structs.replace(SERVER, ports=(), vcpus=1, boot_nonce=0)
    record = msgspec.structs.replace(RECORD, config_drive=False, base_format="raw", base="/images/base.raw")
    settings = msgspec.structs.replace(
        SETTINGS, cpu="Skylake-Server", cpu_features=("aes", "pdpe1gb"), few_cpu_questions=False
    )
    return define(server, record, FOLDER, settings)


CASES = {case.__name__: case for case in (tcg, kvm_uefi_cdrom, kvm_plain)}


@pytest.mark.parametrize("name", CASES)
def test_xml_is_as_it_was_read_by_people(name: str) -> None:
    path, xml = HERE / f"{name}.xml", render(CASES[name]())
    if os.environ.get("MUSTER_WRITE_GOLDEN"):
        path.write_text(xml)
    assert xml == path.read_text()


def test_a_card_that_is_attached_is_one_as_a_domain_has_it_from_its_start() -> None:
    card = render(interface(SERVER.ports[0]))
    path = HERE / "card.xml"
    if os.environ.get("MUSTER_WRITE_GOLDEN"):
        path.write_text(card)
    assert card == path.read_text()
    assert "".join(card.split()) in "".join(render(tcg()).split())


def declared(*modules: ModuleType) -> Iterator[tuple[str, str]]:
    for module in modules:
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, Node) and kind.__module__ == module.__name__:
                yield from ((name, field.name) for field in msgspec.structs.fields(kind))


def used(node: object) -> Iterator[tuple[str, str]]:
    if isinstance(node, tuple):
        for item in node:
            yield from used(item)
    if isinstance(node, Node):
        for field in msgspec.structs.fields(node):
            value = getattr(node, field.name)
            if value not in (None, ()):
                yield type(node).__name__, field.name
                yield from used(value)


def test_every_declared_field_is_in_some_case() -> None:
    exercised = {pair for case in CASES.values() for pair in used(case())}
    assert set(declared(devices, domain, machine)) - exercised == set()


def test_nothing_of_what_a_user_wrote_is_in_the_xml() -> None:
    assert "&lt;" not in render(tcg())


def test_mark_is_read_as_it_was_written() -> None:
    assert read_mark(render(tcg())) == domain.Mark(owner="host-1", server=SERVER.id, boot_nonce=5, disk_nonce=2)
    assert read_mark("<domain><metadata/></domain>") is None
    broken = render(tcg()).replace('boot_nonce="5"', 'boot_nonce="x"')
    assert read_mark(broken) is None


def test_special_characters_are_escaped_and_impossible_ones_refused() -> None:
    assert '<source path="/a&amp;&lt;b&quot;" append="on" />' in render(devices.LogSource(path='/a&<b"'))
    with pytest.raises(Invalid):
        render(devices.LogSource(path="/a\0b"))
    with pytest.raises(Invalid):
        render(machine.Features(acpi=Text("\x1b")))


@pytest.mark.parametrize(
    "port",
    [
        PortSpec(id="../../etc", network_id="n", mac_address="fa:16:3e:00:00:01"),
        PortSpec(id="11111111-2222-4333-8444-555555555555", network_id="n", mac_address="fa:16:3e:00:00"),
    ],
)
def test_bad_ports_are_refused(port: PortSpec) -> None:
    with pytest.raises(Invalid):
        define(msgspec.structs.replace(SERVER, ports=(port,)), RECORD, FOLDER, SETTINGS)
    with pytest.raises(Invalid):
        interface(port)


def test_bad_server_ids_become_no_paths() -> None:
    with pytest.raises(Invalid):
        Folder(SETTINGS.instances_dir, "../x")
    with pytest.raises(Invalid):
        define(msgspec.structs.replace(SERVER, id="x"), RECORD, FOLDER, SETTINGS)

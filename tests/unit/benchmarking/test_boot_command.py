"""The QEMU command by hand is that of a guest under libvirt, but for what is the guest's own or libvirt's."""

import json
from pathlib import Path

from benchmarks.boot_command import Means, by_hand

UUID = "ebb2e7ea-0b7a-4658-bc64-99b85cea29cc"
BASE = {"driver": "file", "filename": "/cloud/images/3a.qcow2", "node-name": "libvirt-2-storage"}
DISK = {"driver": "file", "filename": f"/cloud/instances/{UUID}/disk.qcow2", "node-name": "libvirt-1-storage"}
CARD = {"driver": "virtio-net-pci", "netdev": "hostnet0", "mac": "fa:16:4b:70:ba:ef", "romfile": ""}
UNDER_LIBVIRT = [
    "/usr/bin/qemu-system-x86_64",
    *("-name", f"guest=muster-{UUID},debug-threads=on"),
    "-S",
    *("-object", '{"qom-type":"secret","id":"masterKey0","format":"raw","file":"/run/key"}'),
    *("-machine", "pc-i440fx-7.2,usb=off"),
    *("-accel", "tcg,tb-size=64"),
    *("-object", '{"qom-type":"memory-backend-ram","id":"pc.ram","size":134217728}'),
    *("-uuid", UUID),
    *("-smbios", f"type=1,manufacturer=Muster,uuid={UUID}"),
    "-nodefaults",
    *("-chardev", "socket,id=charmonitor,fd=19,server=on,wait=off"),
    *("-mon", "chardev=charmonitor,id=monitor,mode=control"),
    *("-blockdev", json.dumps(BASE)),
    *("-blockdev", json.dumps(DISK)),
    *("-netdev", '{"type":"tap","fd":"22","id":"hostnet0"}'),
    *("-device", json.dumps(CARD)),
    *("-add-fd", "set=0,fd=18,opaque=serial0-source"),
    *("-chardev", "file,id=charserial0,path=/dev/fdset/0,append=on"),
    *("-device", '{"driver":"isa-serial","chardev":"charserial0"}'),
    *("-sandbox", "on,spawn=deny"),
]
MEANS = Means(
    name="by-hand-1",
    uuid="11111111-2222-3333-4444-555555555555",
    mac="52:54:00:77:00:00",
    tap="floor0",
    disk=Path("/hand/0.qcow2"),
    base=Path("/cache/guest.qcow2"),
    console=Path("/hand/0.console"),
)


def test_all_that_makes_the_guest_stays_word_for_word_and_in_order() -> None:
    command = by_hand(UNDER_LIBVIRT, MEANS)
    kept = ["-machine", "pc-i440fx-7.2,usb=off", "-accel", "tcg,tb-size=64", "-object", UNDER_LIBVIRT[11]]
    start = command.index("-machine")
    assert command[start : start + 6] == kept
    assert command[-2:] == ["-sandbox", "on,spawn=deny"]
    assert "-nodefaults" in command


def test_what_only_libvirt_can_use_is_left_out() -> None:
    said = " ".join(by_hand(UNDER_LIBVIRT, MEANS))
    for word in ("-S ", "masterKey0", "monitor", "-add-fd", "fdset", '"fd"'):
        assert word not in said


def test_what_is_a_guests_own_is_in_its_place_and_nothing_of_the_other_guest_is_left() -> None:
    command = by_hand(UNDER_LIBVIRT, MEANS)
    values = [json.loads(word) for word in command if word.startswith("{")]
    assert {"driver": "file", "filename": "/cache/guest.qcow2", "node-name": "libvirt-2-storage"} in values
    assert {"driver": "file", "filename": "/hand/0.qcow2", "node-name": "libvirt-1-storage"} in values
    assert CARD | {"mac": MEANS.mac} in values
    assert {"type": "tap", "id": "hostnet0", "ifname": "floor0", "script": "no", "downscript": "no"} in values
    said = " ".join(command)
    assert UUID not in said
    assert "/cloud/" not in said
    assert f"type=1,manufacturer=Muster,uuid={MEANS.uuid}" in command
    assert "file,id=charserial0,path=/hand/0.console,append=on" in command

"""The test guest for real: built from Debian's packages, booted from its disk alone under QEMU's emulation.

No control plane and no libvirt: config drives and metadata are written here by OpenStack's documented formats, so that
the guest is held to what any cloud offers, and nothing about it can depend on Muster.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.free_ports import free_port
from muster.cli.built_guest import default_cache_dir
from muster.guest.build import ImageInfo, build_image

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

BOOT_LIMIT_S = 300
INSTANCE = "6f1ed002-ab5d-4a0c-8d6f-1d1f7a9a7f10"
USER_DATA = "#!/bin/sh\necho user-data-ran on $(hostname)\n"

#: Answers one HTTP request on standard input from the files below its first argument; QEMU starts it per connection.
METADATA_SERVICE = """
import pathlib, sys
path = sys.stdin.readline().split()[1].strip("/") or "-"
while sys.stdin.readline().strip():
    pass
file = pathlib.Path(sys.argv[1], path)
file = file / "index" if file.is_dir() else file
body = file.read_bytes() if file.is_file() else b"no"
status = "200 OK" if file.is_file() else "404 Not Found"
head = f"HTTP/1.1 {status}\\r\\nContent-Length: {len(body)}\\r\\nConnection: close\\r\\n\\r\\n"
sys.stdout.buffer.write(head.encode() + body)
"""


def _needs(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImageInfo]:
    _needs("qemu-system-x86_64", "qemu-img", "ssh", "ssh-keygen", "apt-get")
    output = tmp_path_factory.mktemp("guest") / "guest.qcow2"
    return output, build_image(output, default_cache_dir())


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, timeout=300)
    return path


def write_metadata(folder: Path, key: Path, name: str) -> Path:
    """A folder as it stands on a config drive and behind 169.254.169.254 (Nova, metadata API)."""
    public = key.with_suffix(".pub").read_text()
    described = {
        "uuid": INSTANCE,
        "name": name,
        "hostname": f"{name}.novalocal",
        "launch_index": 0,
        "meta": {"note": 'quotes " and {braces} and "uuid": "other"'},
        "public_keys": {"mine": public},
        "keys": [{"name": "mine", "type": "ssh", "data": public}],
    }
    latest = folder / "openstack" / "latest"
    latest.mkdir(parents=True)
    (latest / "meta_data.json").write_text(json.dumps(described))
    (latest / "user_data").write_text(USER_DATA)
    return folder


class Guest:
    """One QEMU process with the image's copy as its only disk; user-mode networking forwards a port to its sshd."""

    def __init__(
        self, image: Path, work: Path, key: Path, *, machine: str, options: list[str], network: str = ""
    ) -> None:
        self.console = work / "console"
        self.qmp_path = work / "qmp"
        self.key = key
        self.port = free_port()
        disk = work / "disk.qcow2"
        shutil.copyfile(image, disk)
        self.process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none"),
                *("-machine", machine, "-accel", "tcg,tb-size=64", "-cpu", "qemu64,+rdrand", "-m", "128"),
                *("-drive", f"file={disk},if=none,id=root,format=qcow2,cache=unsafe"),
                *("-device", "virtio-blk-pci,drive=root", "-device", "virtio-rng-pci"),
                *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.port}-:22{network}"),
                *("-device", "virtio-net-pci,netdev=net,romfile="),
                *("-serial", f"file:{self.console}", "-qmp", f"unix:{self.qmp_path},server=on,wait=off"),
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def transcript(self) -> str:
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def wait_for(self, text: str, times: int = 1) -> None:
        self._wait(lambda: self.transcript().count(text) >= times, f"{text!r} on the console")

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + BOOT_LIMIT_S
        while not done():
            if time.monotonic() > deadline or self.process.poll() is not None:
                pytest.fail(f"no {what}; QEMU status {self.process.poll()}; console:\n{self.transcript()}")
            time.sleep(0.05)

    def ssh(self, command: str, *options: str) -> subprocess.CompletedProcess[str]:
        fixed = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
        flags = [word for option in [*fixed, "ConnectTimeout=250", *options] for word in ("-o", option)]
        line = ["ssh", "-F", "none", "-i", str(self.key), "-p", str(self.port), *flags, "root@127.0.0.1", command]
        return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)

    def said_by(self, command: str) -> str:
        done = self.ssh(command, "IdentitiesOnly=yes")
        assert done.returncode == 0, f"{command}: {done.stderr}\nconsole:\n{self.transcript()}"
        return done.stdout.strip()

    def press_power_button(self) -> None:
        with closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.settimeout(300)
            connection.connect(str(self.qmp_path))
            with connection.makefile("rw") as stream:
                stream.readline()
                for command in ("qmp_capabilities", "system_powerdown"):
                    stream.write(json.dumps({"execute": command}) + "\n")
                    stream.flush()
                    answer = next(said for line in stream if "event" not in (said := json.loads(line)))
                    assert "return" in answer

    def wait_for_power_off(self) -> None:
        try:
            assert self.process.wait(BOOT_LIMIT_S) == 0
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running; console:\n{self.transcript()}")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(300)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def start(image: tuple[Path, ImageInfo], tmp_path: Path, key: Path) -> Iterator[Callable[..., Guest]]:
    guests: list[Guest] = []

    def begin(**how: object) -> Guest:
        guests.append(Guest(image[0], tmp_path, key, **how))  # type: ignore[arg-type]
        return guests[-1]

    yield begin
    for guest in guests:
        guest.close()


def iso_drive(folder: Path, work: Path) -> list[str]:
    """A config drive as Nova makes it by default: ISO 9660, in a CD-ROM drive."""
    _needs("xorriso")
    target = work / "config.iso"
    make = ["xorriso", "-as", "mkisofs", "-quiet", "-J", "-r", "-V", "config-2", "-o", target, folder]
    subprocess.run(make, check=True, timeout=300, capture_output=True)
    return ["-drive", f"file={target},if=ide,media=cdrom,format=raw,readonly=on"]


def vfat_drive(folder: Path, work: Path) -> list[str]:
    """A config drive in Nova's other format: vfat, as a further disk."""
    return ["-drive", f"driver=vvfat,dir={folder},label=config-2,if=virtio,read-only=on"]


@pytest.mark.parametrize(("machine", "drive"), [("pc", iso_drive), ("q35", vfat_drive)])
def test_boots_from_its_disk_and_obeys_config_drive_and_power_button(
    start: Callable[..., Guest], tmp_path: Path, key: Path, machine: str, drive: Callable[[Path, Path], list[str]]
) -> None:
    folder = write_metadata(tmp_path / "drive", key, "vm-7")
    guest = start(machine=machine, options=drive(folder, tmp_path))
    guest.wait_for("muster-guest: ready hostname=vm-7 ip=10.0.2.15")
    assert "metadata source=config-drive" in guest.transcript()
    assert "user-data-ran on vm-7" in guest.transcript()
    assert guest.said_by("hostname") == "vm-7"
    assert "hostname:vm-7" in guest.said_by("ps | grep [u]dhcpc")
    refused = guest.ssh("true", "PubkeyAuthentication=no", "PreferredAuthentications=password,keyboard-interactive")
    assert "Permission denied (publickey)" in refused.stderr
    guest.press_power_button()
    guest.wait_for_power_off()


def metadata_network(folder: Path) -> str:
    """User-mode network in which 169.254.169.254 is answered from `folder`."""
    program = folder.with_suffix(".py")
    program.write_text(METADATA_SERVICE)
    return f",net=169.254.169.0/24,guestfwd=tcp:169.254.169.254:80-cmd:{sys.executable} {program} {folder}"


def test_metadata_service_and_a_reboot_keeps_identity(start: Callable[..., Guest], tmp_path: Path, key: Path) -> None:
    folder = write_metadata(tmp_path / "service", key, "vm-8")
    guest = start(machine="pc", options=[], network=metadata_network(folder))
    guest.wait_for("muster-guest: ready hostname=vm-8")
    assert "metadata source=openstack" in guest.transcript()
    host_key = guest.said_by("sha256sum /etc/dropbear/*key; echo kept > /root/note; sync")
    guest.ssh("reboot")
    guest.wait_for("muster-guest: ready hostname=vm-8", times=2)
    assert guest.said_by("sha256sum /etc/dropbear/*key") == host_key
    assert guest.said_by("cat /root/note") == "kept"
    assert guest.transcript().count("user-data-ran") == 1
    guest.ssh("poweroff")
    guest.wait_for_power_off()


def test_ec2_metadata(start: Callable[..., Guest], tmp_path: Path, key: Path) -> None:
    base = tmp_path / "service" / "latest" / "meta-data"
    (base / "public-keys" / "0").mkdir(parents=True)
    (base / "instance-id").write_text("i-00000001")
    (base / "hostname").write_text("vm-9.novalocal")
    (base / "public-keys" / "0" / "openssh-key").write_text(key.with_suffix(".pub").read_text())
    (base / "public-keys" / "index").write_text("0=mine")
    network = metadata_network(tmp_path / "service")
    guest = start(machine="q35", options=[], network=network)
    guest.wait_for("muster-guest: ready hostname=vm-9")
    assert "metadata source=ec2 instance=i-00000001" in guest.transcript()
    assert guest.said_by("hostname") == "vm-9"


def test_image_is_an_ordinary_disk(image: tuple[Path, ImageInfo]) -> None:
    path, info = image
    command = ["qemu-img", "info", "--output=json", str(path)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
    assert told["format"] == "qcow2"
    assert told["virtual-size"] == info.virtual_size_bytes
    assert "backing-filename" not in told
    assert not told.get("encrypted")
    assert path.stat().st_size == info.size_bytes < 25_000_000
    assert json.loads(path.with_name("guest.qcow2.json").read_text())["sha512"] == info.sha512


def test_same_input_gives_same_bytes_and_no_second_build(image: tuple[Path, ImageInfo], tmp_path: Path) -> None:
    path, info = image
    again = build_image(tmp_path / "other" / "again.qcow2", default_cache_dir())
    assert again.sha512 == info.sha512
    before = os.stat(path)
    steps: list[str] = []
    assert build_image(path, default_cache_dir(), steps.append) == info
    assert os.stat(path).st_mtime_ns == before.st_mtime_ns
    assert steps == ["asking apt for packages"]

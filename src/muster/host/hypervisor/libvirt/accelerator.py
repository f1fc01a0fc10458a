"""Whether KVM really runs guests here. A device file says little: inside virtual machines and containers there are
substitutes and restrictions under which QEMU starts, or even runs a BIOS, and no kernel ever boots.

Invariant: KVM is chosen only after a probe has booted with it on this kernel and this QEMU.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import msgspec
from msgspec import Struct

from muster.base.errors import Unsupported
from muster.base.log import get_logger
from muster.host.hypervisor.libvirt.boot_probe import EXIT_PORT, EXIT_STATUS, EXPECTED, boot_disk
from muster.host.hypervisor.libvirt.settings import Accelerator

_DEVICE = Path("/dev/kvm")
_LINUX_SAYS = b"Linux version "

log = get_logger(__name__)


class ProbeSettings(Struct, frozen=True, kw_only=True):
    """How to find out. `kernel` is a Linux kernel to boot as well, where one is at hand, within `kernel_timeout_s`.

    `cpu` is QEMU's name of the processor that guests will get.
    """

    cache: Path
    emulator: str = "qemu-system-x86_64"
    machine: str = "pc"
    cpu: str = "host"
    timeout_s: float = 5.0
    kernel: Path | None = None
    kernel_timeout_s: float = 15.0


class Verdict(Struct, frozen=True):
    """What was found and why; `circumstances` is what it holds for."""

    accelerator: Accelerator
    reason: str
    circumstances: str


def choose_accelerator(settings: ProbeSettings) -> Verdict:
    """KVM if it boots a guest, otherwise TCG; remembered in `cache` until kernel, QEMU or the probe change.

    Blocks for the length of a probe at most: 0.2 s where KVM works. Raises Unsupported when QEMU is missing.
    """
    circumstances = _circumstances(settings)
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        known = msgspec.json.decode(settings.cache.read_bytes(), type=Verdict)
        if known.circumstances == circumstances:
            return known
    reason = why_not("kvm", settings) if _DEVICE.exists() else f"there is no {_DEVICE}"
    accelerator = Accelerator.TCG if reason else Accelerator.KVM
    verdict = Verdict(accelerator, reason or "a guest has booted", circumstances)
    log.info("accelerator chosen", action="accelerator", accelerator=accelerator, reason=verdict.reason)
    _remember(settings.cache, verdict)
    return verdict


def why_not(accelerator: str, settings: ProbeSettings) -> str:
    """Why QEMU cannot boot guests with this accelerator; empty when it can. One or two runs of QEMU.

    Raises Unsupported when QEMU is missing.
    """
    with tempfile.TemporaryDirectory(prefix="muster-probe-") as folder:
        disk = Path(folder) / "disk.raw"
        disk.write_bytes(boot_disk())
        drive = ["-drive", f"file={disk},format=raw,if=none,id=disk", "-device", "virtio-blk-pci,drive=disk"]
        leave = ["-device", f"isa-debug-exit,iobase={EXIT_PORT:#x},iosize=1"]
        status, said, error = _run(accelerator, settings, [*drive, *leave], settings.timeout_s, Path(folder))
        if status != EXIT_STATUS or said != EXPECTED:
            return f"a probe guest got to {said.decode(errors='replace')!r} of {EXPECTED.decode()!r}. {error}".strip()
        if settings.kernel is not None:
            options = ["-kernel", str(settings.kernel), "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"]
            _, said, error = _run(accelerator, settings, options, settings.kernel_timeout_s, Path(folder))
            if _LINUX_SAYS not in said:
                return f"the kernel {settings.kernel.name} did not start. {error}".strip()
    return ""


def _run(
    accelerator: str, settings: ProbeSettings, options: list[str], timeout_s: float, folder: Path
) -> tuple[int | None, bytes, str]:
    """QEMU's exit status (None: out of time), what the serial port said, and QEMU's last line of complaint."""
    console = folder / "console"
    console.unlink(missing_ok=True)
    fixed = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "128"]
    machine = ["-machine", settings.machine, "-accel", accelerator, "-cpu", settings.cpu]
    command = [settings.emulator, *fixed, *machine, "-serial", f"file:{console}", *options]
    try:
        done = subprocess.run(  # noqa: S603
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False, cwd=folder
        )
        status, output = done.returncode, done.stderr
    except subprocess.TimeoutExpired as error:
        status, output = None, error.stderr or b""
    except OSError as error:
        raise Unsupported(f"{settings.emulator} cannot be run; install qemu-system-x86") from error
    said = console.read_bytes() if console.exists() else b""
    lines = output.decode(errors="replace").strip().splitlines()
    return status, said, lines[-1] if lines else ""


def _circumstances(settings: ProbeSettings) -> str:
    """All that could make a difference. One run of QEMU. Raises Unsupported."""
    emulator = shutil.which(settings.emulator)
    if emulator is None:
        raise Unsupported(
            f"{settings.emulator} is missing; run: apt-get install --no-install-recommends qemu-system-x86"
        )
    version = subprocess.run([emulator, "--version"], capture_output=True, timeout=30, check=False)  # noqa: S603
    line = version.stdout.decode(errors="replace").partition("\n")[0]
    kernel = f"{settings.kernel}@{settings.kernel.stat().st_mtime_ns}" if settings.kernel else ""
    access = os.access(_DEVICE, os.R_OK | os.W_OK)
    host = (os.uname().release, os.uname().version, str(access))
    how = (settings.machine, settings.cpu, kernel, hashlib.sha256(boot_disk()).hexdigest()[:16])
    return "; ".join((*host, line, *how))


def _remember(cache: Path, verdict: Verdict) -> None:
    """A cache that cannot be written only costs the next start a probe."""
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        new = cache.with_name(cache.name + ".new")
        new.write_bytes(msgspec.json.encode(verdict))
        new.replace(cache)

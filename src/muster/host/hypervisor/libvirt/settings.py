"""What an operator may decide about guests under libvirt."""

from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from muster.host.ports import KEEP_UNKNOWN_S


class Accelerator(StrEnum):
    """What runs a guest's instructions: the processor, or QEMU's emulation of one."""

    KVM = "kvm"
    TCG = "tcg"


class Firmware(StrEnum):
    """What a guest boots with."""

    BIOS = "bios"
    UEFI = "uefi"


class DriveBus(StrEnum):
    """How a guest sees its config drive: as a further disk (`vdb`) or as a CD-ROM."""

    VIRTIO = "virtio"
    CDROM = "cdrom"


class LibvirtSettings(Struct, frozen=True, kw_only=True):
    """Settings of `LibvirtHypervisor`.

    `instances_dir` belongs to one agent and is where guests' folders are. `owner` marks this agent's guests among
    those of a shared libvirt. `threads` bounds the calls that are in flight on the one connection; libvirtd's own
    default limit is 5 requests per client. `cpu` is `host-passthrough`, `host-model` or a model's name, with
    `cpu_features` required on top; None chooses by accelerator: the host's model, or under emulation an x86-64-v2.
    `emulator` None lets libvirt choose.
    `few_cpu_questions` makes libvirt look at a guest's processor with two questions to QEMU instead of some 400: a
    start takes 0.05 s instead of 0.3 s (libvirt 9.0, QEMU 7.2). `tb_cache_mib` is the translation cache per guest
    (TCG). `disk_cache` is QEMU's cache mode: `writeback` lets guests of one image share the host's page cache and
    still obeys their flushes. `card_timeout_s` is how long a guest may take to let go of a network card before others
    are served and it is asked again. `console_kib` is what is kept of a console, and
    of what QEMU says of a guest.
    A batch waits `image_patience_s` for images that are still being fetched, then goes on without the servers that need
    them: these are tried again soon.
    A guest that is to shut down has its power button pressed every `press_again_s`, for `shutdown_timeout_s`.
    Guests whose servers the database does not know are shut down and kept for `keep_unknown_s` (0: removed), which is
    counted every `kept_check_s`.
    Images that no guest has needed for `images_idle_s` are removed, looked for every `images_check_s`.
    Guests that a full disk has paused are tried again every `stalled_check_s`. `qemu_log_dir` is where libvirt logs
    per domain, if those logs are Muster's to remove.
    """

    instances_dir: Path
    uri: str = "qemu:///system"
    owner: str = "muster"
    accelerator: Accelerator = Accelerator.KVM
    machine: str = "pc"
    firmware: Firmware = Firmware.BIOS
    uefi_loader: Path = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
    uefi_variables: Path = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
    emulator: str | None = None
    cpu: str | None = None
    cpu_features: tuple[str, ...] = ("rdrand",)
    few_cpu_questions: bool = True
    tb_cache_mib: int = 64
    disk_cache: str = "writeback"
    drive_bus: DriveBus = DriveBus.VIRTIO
    always_config_drive: bool = False
    dns_domain: str = ""
    reserved_ram_mib: int = 512
    threads: int = 5
    image_patience_s: float = 5.0
    shutdown_timeout_s: float = 60.0
    press_again_s: float = 10.0
    card_timeout_s: float = 5.0
    console_kib: int = 1_024
    console_check_s: float = 10.0
    stalled_check_s: float = 15.0
    keep_unknown_s: float = KEEP_UNKNOWN_S
    kept_check_s: float = 1_800.0
    images_idle_s: float = 86_400.0
    images_check_s: float = 3_600.0
    qemu_log_dir: Path | None = None

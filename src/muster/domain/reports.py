"""What a host says: the values that travel from a host to the control plane, always in batches."""

from enum import StrEnum

from msgspec import Struct


class GuestState(StrEnum):
    """What a host sees of a server."""

    PENDING = "pending"  # known, waiting for its turn (image, network, boot admission)
    RUNNING = "running"
    STOPPED = "stopped"
    ABSENT = "absent"  # removed, or never made: nothing of it is left on the host
    FAILED = "failed"  # could not be made as asked; `fault` says why


class Fault(Struct, frozen=True):
    """Why a server failed. `message` is for the user, `details` for the operator."""

    code: int
    message: str
    details: str = ""


class ServerReport(Struct, frozen=True, kw_only=True):
    """One server as a host sees it. `generation` is that of the newest spec that this state answers.

    `stamps` maps the steps of the server's timeline (`STEPS` in `domain.timeline`) to Unix seconds.
    """

    server_id: str
    generation: int
    state: GuestState
    boot_nonce: int = 0
    disk_nonce: int = 0
    fault: Fault | None = None
    stamps: dict[str, float] = {}


class HostCapacity(Struct, frozen=True, kw_only=True):
    """What a host has in all, before overcommit; `reserved_ram_mib` is kept for the host itself."""

    vcpus: int
    ram_mib: int
    disk_gib: int
    reserved_ram_mib: int = 0

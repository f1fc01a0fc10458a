"""Servers: their values, their states, and what each request and each report of a host makes of them. Pure."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from muster.base.errors import Conflict
from muster.domain.reports import GuestState, ServerReport
from muster.domain.specs import FixedIp, ImageSpec, InjectedFile, Power
from muster.domain.timeline import ACTIVE


class FlavorPicture(Struct, frozen=True, kw_only=True):
    """A flavor as it was when the server was asked for."""

    id: str
    name: str
    vcpus: int
    ram_mib: int
    disk_gib: int = 0
    ephemeral_gib: int = 0
    swap_mib: int = 0
    extra_specs: dict[str, str] = {}


class WantedNic(Struct, frozen=True, kw_only=True):
    """An interface that a request asks for: an existing port, or a new one on a network.

    `new_port_id` is set where something refers to the new port (its `tag`) before it is made.
    """

    network_id: str | None = None
    port_id: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None
    new_port_id: str | None = None


class NewServer(Struct, frozen=True, kw_only=True):
    """One server to be made, already parsed and looked up. `security_group_ids` None takes the default group."""

    id: str
    project_id: str
    user_id: str
    name: str
    hostname: str
    flavor: FlavorPicture
    reservation_id: str
    request_id: str
    accepted_at: float
    description: str | None = None
    image: ImageSpec | None = None
    key_name: str | None = None
    public_key: str | None = None
    user_data: str | None = None
    injected_files: tuple[InjectedFile, ...] = ()
    metadata: dict[str, str] = {}
    config_drive: bool = False
    availability_zone: str | None = None
    wanted_hostname: str | None = None
    disk_config: str = "MANUAL"
    access_ip_v4: str = ""
    access_ip_v6: str = ""
    server_group_id: str | None = None
    launch_index: int = 0
    tags: tuple[str, ...] = ()
    nics: tuple[WantedNic, ...] = ()
    security_group_ids: tuple[str, ...] | None = None

    @property
    def interface_tags(self) -> dict[str, str]:
        """The tags of interfaces, by port."""
        return {nic.port_id or nic.new_port_id or "": nic.tag for nic in self.nics if nic.tag is not None}


class Fault(Struct, frozen=True):
    """Why a server is in ERROR."""

    code: int
    message: str
    details: str
    created_at: float


class Interface(Struct, frozen=True, kw_only=True):
    """A server's port, as its addresses are shown."""

    port_id: str
    network_id: str
    network_name: str
    mac_address: str
    status: str = "DOWN"
    fixed_ips: tuple[FixedIp, ...] = ()
    security_group_names: tuple[str, ...] = ()


class Server(Struct, frozen=True, kw_only=True):
    """A server as it is. `power_state` is Nova's number: 0 unknown, 1 running, 4 shut down, 6 crashed.

    `locked_by` is who has locked it: its project (`owner`) or another (`admin`). `interface_tags` maps ports to tags.
    `host_seen_at` is when its host was last heard of, None if it is forced down.
    """

    id: str
    project_id: str
    user_id: str
    name: str
    hostname: str
    description: str | None
    flavor: FlavorPicture
    image: ImageSpec | None
    key_name: str | None
    public_key: str | None
    user_data: str | None
    injected_files: tuple[InjectedFile, ...]
    metadata: dict[str, str]
    config_drive: bool
    availability_zone: str | None
    disk_config: str
    access_ip_v4: str
    access_ip_v6: str
    server_group_id: str | None
    reservation_id: str
    launch_index: int
    locked: bool
    locked_reason: str | None
    host_id: str | None
    hostname_of_host: str | None
    zone_of_host: str | None
    vm_state: str
    task_state: str | None
    power_state: int
    power: Power
    generation: int
    boot_nonce: int
    boot_hard: bool
    disk_nonce: int
    fault: Fault | None
    timeline: dict[str, float]
    created_at: float
    updated_at: float
    launched_at: float | None
    terminated_at: float | None
    deleted_at: float | None
    locked_by: str | None = None
    interface_tags: dict[str, str] = {}
    host_disabled: bool = False
    host_seen_at: float | None = None
    kept_port_ids: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    interfaces: tuple[Interface, ...] = ()

    @property
    def status(self) -> str:
        """The API's status: see `status_of`."""
        return status_of(self.vm_state, self.task_state)


class Verb(StrEnum):
    """What can be asked of a server that exists; the values are Nova's names of instance actions."""

    STOP = "stop"
    START = "start"
    REBOOT = "reboot"
    REBUILD = "rebuild"
    DELETE = "delete"


_STATUS = {
    "active": "ACTIVE",
    "building": "BUILD",
    "stopped": "SHUTOFF",
    "error": "ERROR",
    "deleted": "DELETED",
    "soft-delete": "SOFT_DELETED",
}
_STATUS_OF_TASK = {
    ("active", "rebooting"): "REBOOT",
    ("active", "rebooting_hard"): "HARD_REBOOT",
    ("stopped", "rebooting_hard"): "HARD_REBOOT",
    ("error", "rebooting_hard"): "HARD_REBOOT",
    ("active", "rebuilding"): "REBUILD",
    ("stopped", "rebuilding"): "REBUILD",
    ("error", "rebuilding"): "REBUILD",
}


def status_of(vm_state: str, task_state: str | None) -> str:
    """The API's status of Nova's two states (nova/api/openstack/common.py has the same table)."""
    return _STATUS_OF_TASK.get((vm_state, task_state or ""), _STATUS.get(vm_state, "UNKNOWN"))


# A host not heard of for longer is not known to be up.
HOST_TIMEOUT_S = 60.0


def host_status(server: Server, now: float) -> str:
    """Nova's word for the state of a server's host; empty for a server that has none."""
    if server.host_id is None:
        return ""
    if server.host_seen_at is None:
        return "DOWN"
    if server.host_disabled:
        return "MAINTENANCE"
    return "UP" if now - server.host_seen_at <= HOST_TIMEOUT_S else "UNKNOWN"


def host_is_down(server: Server, heard_until: float) -> bool:
    """Whether nobody can be told what should become of the server: its host is silent for long, or said to be down.

    `heard_until`: the newest moment of which it is known whether hosts spoke.
    """
    silent = server.host_seen_at is None or heard_until - server.host_seen_at > HOST_TIMEOUT_S
    return server.host_id is not None and silent


def states_of(statuses: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(vm_states, task_states) of these statuses, as Nova looks for them; two empty ones if there is no such status.

    Where one of the statuses is that of a vm_state without a task, the tasks do not count: ACTIVE finds servers that
    reboot as well.
    """
    words = {status.upper() for status in statuses}
    plain = {vm_state for vm_state, word in _STATUS.items() if word in words}
    tasks = {pair for pair, word in _STATUS_OF_TASK.items() if word in words}
    vm_states = plain | {vm_state for vm_state, _ in tasks}
    return tuple(sorted(vm_states)), () if plain else tuple(sorted({task for _, task in tasks}))


# Which requests a server takes in which vm_state; a task under way refuses all but DELETE and a hard reboot.
_TAKES: dict[Verb, frozenset[str]] = {
    Verb.STOP: frozenset({"active", "error"}),
    Verb.START: frozenset({"stopped"}),
    Verb.REBOOT: frozenset({"active", "stopped", "error"}),
    Verb.REBUILD: frozenset({"active", "stopped", "error"}),
}


# Nonces of reboots and rebuilds come from the clock: seconds since the beginning of 2025, for which 31 bits do to 2093.
_NONCES_BEGIN_AT = 1_735_689_600


class Asked(Struct, frozen=True, kw_only=True):
    """A request to change a server. `hard` is a reboot's kind; the rest is a rebuild's, None for unchanged."""

    verb: Verb
    hard: bool = False
    image: ImageSpec | None = None
    values: dict[str, Any] = {}


def ask(server: Server, asked: Asked, now: float) -> Server:
    """The server after the request was taken. Raises Conflict (`compute.state`) if its state does not allow it."""
    if asked.verb is Verb.DELETE:
        return replace(
            server, power=Power.ABSENT, task_state="deleting", generation=server.generation + 1, updated_at=now
        )
    forced = asked.verb is Verb.REBOOT and asked.hard
    if server.vm_state not in _TAKES[asked.verb] or (
        asked.verb is Verb.REBOOT and not forced and server.vm_state != "active"
    ):
        raise _refusal(server, asked.verb, "vm_state", server.vm_state)
    if server.task_state is not None and not (forced and server.task_state in ("rebooting", "rebooting_hard")):
        raise _refusal(server, asked.verb, "task_state", server.task_state)
    if server.host_id is None:
        raise _refusal(server, asked.verb, "vm_state", server.vm_state)
    newer = replace(server, generation=server.generation + 1, updated_at=now)
    if asked.verb is Verb.STOP:
        return replace(newer, power=Power.STOPPED, task_state="powering-off")
    if asked.verb is Verb.START:
        return replace(newer, power=Power.RUNNING, task_state="powering-on")
    if asked.verb is Verb.REBOOT:
        task = "rebooting_hard" if asked.hard else "rebooting"
        return replace(
            newer, power=Power.RUNNING, boot_nonce=_newer(server.boot_nonce, now), boot_hard=asked.hard, task_state=task
        )
    power = Power.STOPPED if server.vm_state == "stopped" else Power.RUNNING
    disk_nonce = _newer(server.disk_nonce, now)
    rebuilt = replace(newer, power=power, disk_nonce=disk_nonce, task_state="rebuilding", fault=None)
    return replace(rebuilt, image=asked.image or server.image, **asked.values)


def _newer(nonce: int, now: float) -> int:
    """A nonce that no host has seen of this server. One that was only counted on would be old to a host that has done
    what the database forgot when it was set back."""
    return max(nonce + 1, int(now) - _NONCES_BEGIN_AT)


def _refusal(server: Server, verb: Verb, kind: str, value: str) -> Conflict:
    return Conflict(
        f"Cannot '{verb.value}' instance {server.id} while it is in {kind} {value}",
        code="compute.state",
    )


def observe(server: Server, report: ServerReport, now: float) -> Server:
    """The server after a host's report; the same server if the report says nothing new.

    A report that answers an older generation than the newest asked for cannot end the task under way.
    """
    timeline = {**server.timeline, **report.stamps}
    seen = replace(server, timeline=timeline) if timeline != server.timeline else server
    if server.deleted_at is not None or report.generation < server.generation or _falls_short(server, report):
        return seen
    if report.state is GuestState.RUNNING:
        return _running(seen, now)
    if report.state is GuestState.STOPPED:
        return _stopped(seen, now)
    if report.state is GuestState.FAILED and report.fault is not None:
        fault = Fault(report.fault.code, report.fault.message, report.fault.details, now)
        return replace(seen, vm_state="error", task_state=None, fault=fault, power_state=0, updated_at=now)
    if report.state is GuestState.ABSENT and server.power is Power.ABSENT:
        return deleted(seen, now)
    return seen


def _falls_short(server: Server, report: ServerReport) -> bool:
    """Whether the guest was not rebooted, or its disk not made anew, since that was asked for. Its generation does not
    say so where the host knows a higher one, of a database that was set back since."""
    runs = report.state is GuestState.RUNNING
    is_old = runs and report.boot_nonce < server.boot_nonce
    return is_old or (report.disk_nonce < server.disk_nonce and (runs or report.state is GuestState.STOPPED))


def deleted(server: Server, now: float) -> Server:
    """The server once nothing of it is left."""
    return replace(
        server,
        vm_state="deleted",
        task_state=None,
        power_state=0,
        deleted_at=now,
        terminated_at=now,
        updated_at=now,
    )


def _running(server: Server, now: float) -> Server:
    if server.power is not Power.RUNNING or (server.vm_state, server.task_state) == ("active", None):
        return server
    return replace(
        server,
        vm_state="active",
        task_state=None,
        power_state=1,
        fault=None,
        launched_at=server.launched_at or now,
        updated_at=now,
        timeline={ACTIVE: now, **server.timeline},
    )


def _stopped(server: Server, now: float) -> Server:
    if server.power is Power.ABSENT or (server.vm_state, server.task_state) == ("stopped", None):
        return server
    # A guest that powered itself off is not started again until somebody asks, as with Nova.
    return replace(server, vm_state="stopped", task_state=None, power_state=4, power=Power.STOPPED, updated_at=now)

"""Changes of a server that its host need not bring about: its lock, a reset of its state; and what refuses a change."""

from collections.abc import Collection

from msgspec.structs import replace

from muster.base.errors import Conflict, Forbidden
from muster.domain.context import Context
from muster.domain.servers import Fault, Server

# States in which Nova lets metadata and tags be changed, and interfaces be attached.
SETTLED = ("active", "stopped")


def check_unlocked(context: Context, server: Server) -> None:
    """Raises Conflict if the server is locked: then only admins change it."""
    if server.locked and not context.is_admin:
        raise Conflict(f"Instance {server.id} is locked", code="compute.locked")


def check_settled(server: Server, action: str, *, idle: bool, states: Collection[str] = SETTLED) -> None:
    """Raises Conflict (`compute.state`) unless the server is in one of `states`, and, if `idle`, has no task."""
    if server.vm_state not in states:
        kind, value = "vm_state", server.vm_state
    elif idle and server.task_state is not None:
        kind, value = "task_state", server.task_state
    else:
        return
    raise Conflict(f"Cannot '{action}' instance {server.id} while it is in {kind} {value}", code="compute.state")


def locked(server: Server, context: Context, reason: str | None) -> Server:
    """The server, locked. Its owner does not touch the lock of an admin."""
    owner = context.project_id == server.project_id
    if owner and server.locked_by == "admin":
        return server
    return replace(server, locked=True, locked_by="owner" if owner else "admin", locked_reason=reason)


def unlocked(server: Server, context: Context) -> Server:
    """The server without its lock. Raises Forbidden for an owner, where an admin has locked it."""
    by_other = server.locked_by == "admin" and context.project_id == server.project_id
    if by_other and not context.is_admin:
        raise Forbidden(
            "Policy doesn't allow os_compute_api:os-lock-server:unlock:unlock_override to be performed.",
            code="compute.policy",
        )
    return replace(server, locked=False, locked_by=None, locked_reason=None)


def reset(server: Server, vm_state: str, now: float) -> Server:
    """The server in the state that an admin says it is in."""
    fault = server.fault
    if vm_state == "error" and fault is None:
        fault = Fault(500, "The state was set to error by an administrator.", "", now)
    return replace(server, vm_state=vm_state, task_state=None, fault=fault, updated_at=now)

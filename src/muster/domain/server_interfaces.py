"""Interfaces of servers that exist: what attaching and detaching one makes of the server. Pure."""

from msgspec import Struct
from msgspec.structs import replace

from muster.domain.context import Context
from muster.domain.server_changes import check_settled, check_unlocked
from muster.domain.server_lookups import NicAsked
from muster.domain.servers import Server


class Attach(Struct, frozen=True, kw_only=True):
    """A request to attach an interface. `nic` None takes the only network that the project may use."""

    context: Context
    server_id: str
    nic: NicAsked | None
    tag: str | None
    request_id: str


class Detach(Struct, frozen=True, kw_only=True):
    """A request to detach an interface."""

    context: Context
    server_id: str
    port_id: str
    request_id: str


def check_pluggable(context: Context, server: Server, action: str) -> None:
    """Raises Conflict unless the server's interfaces may change now."""
    check_unlocked(context, server)
    check_settled(server, action, idle=True)


def attached(server: Server, port_id: str, tag: str | None, *, kept: bool) -> Server:
    """The server with a port more; `kept` outlives it, because it was there before."""
    tags = {**server.interface_tags, port_id: tag} if tag is not None else server.interface_tags
    kept_port_ids = (*server.kept_port_ids, port_id) if kept else server.kept_port_ids
    return replace(server, interface_tags=tags, kept_port_ids=kept_port_ids)


def detached(server: Server, port_id: str) -> Server:
    """The server without a port."""
    tags = {name: tag for name, tag in server.interface_tags.items() if name != port_id}
    return replace(
        server, interface_tags=tags, kept_port_ids=tuple(name for name in server.kept_port_ids if name != port_id)
    )

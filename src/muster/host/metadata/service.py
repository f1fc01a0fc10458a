"""The metadata service: 169.254.169.254, for the guests of this host, on every bridge that has some.

A listening socket per bridge, bound to it (SO_BINDTODEVICE), all in one event loop. Invariants: who asks is known by
the bridge and the source address alone, so equal addresses on two networks stay apart; an unknown source gets 404 and
nothing else; no answer holds anything of another server. The address on the bridge and the rules against spoofed
sources are the plumbing's.
"""

import asyncio
import contextlib
import errno
import secrets
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from ipaddress import ip_address

import msgspec
from msgspec import Struct

from muster.base.errors import Conflict, Invalid, Transient, Unsupported
from muster.base.log import get_logger
from muster.host.metadata.http import Connections, HttpConnection
from muster.host.metadata.openstack import Description
from muster.host.metadata.tree import answer, service_files
from muster.host.names import bridge_name

ADDRESS = "169.254.169.254"
SEED_BYTES = 512
_BACKLOG = 1_024
_IP_FREEBIND = 15  # not in Python's socket module

log = get_logger(__name__)


class MetadataSettings(Struct, frozen=True, kw_only=True):
    """Where the service listens. `bridge_of` names a network's bridge; None as name listens on all interfaces."""

    address: str = ADDRESS
    port: int = 80
    bridge_of: Callable[[str], str | None] = bridge_name


class _Listener(Struct):
    server: asyncio.Server
    connections: Connections
    interface_index: int
    port: int


class MetadataService:
    """Serves the described servers on the added networks; one loop, no threads, no state on disk."""

    def __init__(self, settings: MetadataSettings | None = None) -> None:
        self._settings = settings or MetadataSettings()
        self._listeners: dict[str, _Listener] = {}
        self._servers: dict[str, Description] = {}
        self._by_source: dict[tuple[str, str], str] = {}
        self._changing = asyncio.Lock()

    def set_servers(self, servers: Iterable[Description]) -> None:
        """These are all servers."""
        self._servers, self._by_source = {}, {}
        self.put_servers(servers)

    def put_servers(self, servers: Iterable[Description]) -> None:
        """Add servers, or replace what is known of them."""
        described = list(servers)
        self.remove_servers([description.server.id for description in described])
        for description in described:
            self._servers[description.server.id] = description
            for source in _sources(description):
                self._by_source[source] = description.server.id

    def remove_servers(self, server_ids: Iterable[str]) -> None:
        """Forget servers; their next request gets 404. Unknown ids are ignored."""
        for server_id in server_ids:
            description = self._servers.pop(server_id, None)
            for source in _sources(description) if description else ():
                # An address may have gone to another server since.
                if self._by_source.get(source) == server_id:
                    del self._by_source[source]

    async def set_networks(self, network_ids: Collection[str]) -> None:
        """Listen on exactly these networks' bridges. Raises as `add_networks`."""
        await self.keep_networks(network_ids)
        await self.add_networks(list(network_ids))

    async def keep_networks(self, network_ids: Collection[str]) -> None:
        """Stop listening on all other networks' bridges."""
        await self.remove_networks([known for known in self._listeners if known not in network_ids])

    async def add_networks(self, network_ids: Sequence[str]) -> None:
        """Listen on these networks' bridges too; one whose bridge was made anew is listened on anew.

        Raises Transient when a bridge is not there (the others are served), Unsupported without the right to bind,
        Conflict when another service has the address. Cost: five system calls per new network.
        """
        async with self._changing:
            failures = [failure for network_id in network_ids if (failure := await self._listen(network_id))]
        if failures:
            raise failures[0]

    async def remove_networks(self, network_ids: Iterable[str]) -> None:
        """Stop listening on these bridges and drop their connections. Unknown ids are ignored."""
        async with self._changing:
            for network_id in network_ids:
                self._drop(network_id)

    def port_of(self, network_id: str) -> int:
        """The port that a network's listener has; for settings with port 0. Raises KeyError."""
        return self._listeners[network_id].port

    async def close(self) -> None:
        """Stop listening."""
        await self.remove_networks(list(self._listeners))

    async def _listen(self, network_id: str) -> Transient | Unsupported | Conflict | None:
        bridge = self._settings.bridge_of(network_id)
        try:
            index = socket.if_nametoindex(bridge) if bridge else 0
            known = self._listeners.get(network_id)
            if known is not None and known.interface_index == index:
                return None
            self._drop(network_id)
            self._listeners[network_id] = await self._open(network_id, bridge, index)
        except OSError as error:
            log.warning("metadata does not listen", action="metadata_failed", network=network_id, error=str(error))
            return _failure(error, bridge)
        return None

    async def _open(self, network_id: str, bridge: str | None, index: int) -> _Listener:
        connections = Connections()
        listening = _socket(self._settings, bridge)
        with contextlib.ExitStack() as undo:
            undo.callback(listening.close)
            server = await asyncio.get_running_loop().create_server(
                lambda: HttpConnection(lambda source, path: self._answer(network_id, source, path), connections),
                sock=listening,
                backlog=_BACKLOG,
            )
            undo.pop_all()
        return _Listener(server, connections, index, listening.getsockname()[1])

    def _drop(self, network_id: str) -> None:
        listener = self._listeners.pop(network_id, None)
        if listener is not None:
            listener.server.close()
            listener.connections.close()

    def _answer(self, network_id: str, source: str, path: str) -> bytes | None:
        server_id = self._by_source.get((network_id, source))
        if server_id is None:
            return None
        description = self._servers[server_id]
        if not description.random_seed:
            description = msgspec.structs.replace(description, random_seed=secrets.token_bytes(SEED_BYTES))
        key = description.server.key
        try:
            return answer(service_files(description), path, key.name if key else None)
        except Invalid as error:
            log.warning("server cannot be described", action="metadata_invalid", server=server_id, error=error.message)
            return None


def _sources(description: Description) -> list[tuple[str, str]]:
    """The (network, address) pairs by which a server is known."""
    return [
        (port.network_id, str(ip_address(fixed.ip_address)))
        for port in description.server.ports
        for fixed in port.fixed_ips
    ]


def _socket(settings: MetadataSettings, bridge: str | None) -> socket.socket:
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # The plumbing may give the bridge its address later than this.
        listening.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if bridge is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, bridge.encode() + b"\0")
        listening.bind((settings.address, settings.port))
    except OSError:
        listening.close()
        raise
    return listening


def _failure(error: OSError, bridge: str | None) -> Transient | Unsupported | Conflict:
    if error.errno in (errno.EPERM, errno.EACCES):
        return Unsupported("the metadata service needs root (CAP_NET_BIND_SERVICE, CAP_NET_RAW)")
    if error.errno == errno.EADDRINUSE:
        return Conflict(f"another service listens for metadata on {bridge}")
    return Transient(f"metadata cannot be served on {bridge}: {error}")

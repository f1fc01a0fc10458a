"""The host's DHCP servers: one per network that has a DHCP port, adopted again after a restart of the agent.

Invariants: when `put` returns, the entries of its ports are served; a network's server never answers for another
network; a lease of a port that is gone is released, so that the next port with its address gets it.
All methods block and belong to one thread.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence, Set
from ipaddress import ip_address, ip_network

from muster.base.errors import Invalid, MusterError, Transient
from muster.base.log import get_logger
from muster.domain.specs import NetworkSpec
from muster.host.names import bridge_name
from muster.host.network.checks import uuid_of
from muster.host.network.dhcp_options import left_out, option_lines
from muster.host.network.dhcp_release import release
from muster.host.network.dhcp_server import DhcpFailed, DhcpServer, Entries
from muster.host.network.dnsmasq_config import (
    ServerFiles,
    config_text,
    host_lines,
    mac_and_address_of_line,
    served_subnets,
    serves,
)
from muster.host.network.settings import NetworkSettings
from muster.host.ports import PlumbedPort

LogOpened = Callable[[str, int], None]
LogClosed = Callable[[str], None]
Options = dict[str, dict[str, tuple[str, ...]]]  # by network and port: lines of the configuration


class Dhcp:
    """All DHCP servers of a host. `opened` is told each server's network and log file, `closed` that it is over."""

    def __init__(self, settings: NetworkSettings, opened: LogOpened, closed: LogClosed) -> None:
        self._settings = settings
        self._opened = opened
        self._closed = closed
        self._folder = settings.state_dir / "dhcp"
        self._servers: dict[str, DhcpServer] = {}
        self._networks: dict[str, NetworkSpec] = {}
        self._ports: dict[str, PlumbedPort] = {}
        self._due: set[str] = set()  # networks of which all ports need other entries, until their server has them
        self._options: Options = {}  # of ports that have some of their own
        self._hanging: set[str] = set()
        self._retired6: dict[str, set[str]] = {}  # DHCPv6 leases cannot be released for others; see _add
        self._loaded = False
        self._log = get_logger(__name__)

    def put(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None:
        """Host entries of these ports are served. `networks` has those of the ports, unless given before.

        Raises Invalid (nothing changes), DhcpFailed, Unsupported. Cost: one file per network with new entries; a
        restart of the server where a port has options of its own, which dnsmasq reads at its start only. Grows with the
        ports of a network only when other subnets of it are served.
        """
        self._load()
        given = {uuid_of(network.id): network for network in networks}
        known = self._networks | given
        due = self._due | {key for key, network in given.items() if self._serves_others(network)}
        wanted = self._entries(known, [*self._ports_of(due & given.keys()), *ports])
        options = _merged(self._options, ports)
        affected = wanted.keys() | given.keys()
        texts = self._texts([known[network_id] for network_id in affected], options)
        self._networks, self._options, self._due = known, options, due
        self._ports |= {uuid_of(port.port.id): port for port in ports}
        for port in ports:
            if names := left_out(port.port):
                self._log.warning("not given", action="host.dhcp.options_left_out", port=port.port.id, options=names)
        for network_id in affected & self._servers.keys() - texts.keys():
            self._end(network_id)
        for network_id, text in texts.items():
            self._serve(network_id, text)
            self._add(network_id, wanted.get(network_id, {}))
            self._due -= given.keys() & {network_id}

    def remove(self, port_ids: Sequence[str]) -> None:
        """Leases of these ports are over and their entries count no more. Raises DhcpFailed, OSError. Cost: a datagram
        per lease.

        dnsmasq forgets the entries with the next `revive`, at a cost that grows with what is left.
        """
        self._load()
        gone = {uuid_of(port_id) for port_id in port_ids}
        for port_id in gone:
            self._ports.pop(port_id, None)
        for lines in self._options.values():
            for port_id in gone & lines.keys():
                del lines[port_id]
        failures: list[Transient | OSError] = []
        for network_id, server in self._servers.items():
            here = gone & server.entries.keys()
            if not here and not gone & server.retired.keys():
                continue
            try:
                self._retire(network_id, here)
                server.retire(here)
                if not server.tidy:
                    server.compact()
            except (Transient, OSError) as error:  # one that hangs holds up its own network's ports only
                failures.append(error)
        if failures:
            raise failures[0]

    def keep(self, networks: Sequence[NetworkSpec], ports: Sequence[PlumbedPort]) -> None:
        """These are all: adopt, repair or start their servers, end every other one.

        Raises Invalid, Unsupported. A server that does not start is logged and left to `revive`, so that one network
        holds up no other.
        """
        self._load()
        known = {uuid_of(network.id): network for network in networks}
        wanted = self._entries(known, ports)
        options = _merged({}, ports)
        texts = self._texts(known.values(), options)
        self._networks, self._options = known, options
        self._ports, self._due = {uuid_of(port.port.id): port for port in ports}, set()
        for network_id in self._servers.keys() - texts.keys():
            self._end(network_id)
        for network_id, text in texts.items():
            try:
                self._serve(network_id, text)
                self._replace(network_id, wanted.get(network_id, {}))
            except Transient as error:
                self._due.add(network_id)
                self._no_dhcp(network_id, error)

    def revive(self) -> None:
        """Servers that died run again, and such as hang, with the entries that they should have; one that cannot be
        started is logged."""
        for network_id, server in self._servers.items():
            try:
                self._tidy_up(network_id, server)
                if network_id not in self._networks or server.running:
                    continue
                server.start()
                self._log.warning("a DHCP server had died and runs again", action="host.dhcp.died", network=network_id)
            except (MusterError, OSError) as error:
                self._no_dhcp(network_id, error)

    def _tidy_up(self, network_id: str, server: DhcpServer) -> None:
        """One that reads nothing, look after look, is ended: it hangs, and does not answer its guests either."""
        try:
            server.compact()
        except DhcpFailed:
            if network_id not in self._hanging:
                self._hanging.add(network_id)
                raise
            server.stop()
        self._hanging.discard(network_id)

    def teardown(self) -> int:
        """No server and no file of any is left; how many ran."""
        self._load()
        n_running = sum(server.running for server in self._servers.values())
        for network_id in list(self._servers):
            self._end(network_id)
        with contextlib.suppress(OSError):
            self._folder.rmdir()
        self._loaded = False
        return n_running

    def who(self, network_id: str, address: str) -> tuple[str, str] | None:
        """Port and MAC that an address of a network is served to; may be asked from any thread."""
        server = self._servers.get(network_id)
        return server.addresses.get(address) if server else None

    def _load(self) -> None:
        if self._loaded:
            return
        self._settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for folder in self._folder.iterdir():
            with contextlib.suppress(Invalid):
                if folder.name == uuid_of(folder.name):
                    self._open(folder.name)
        self._loaded = True

    def _open(self, network_id: str) -> DhcpServer:
        server = DhcpServer(self._folder / network_id, self._settings)
        # One without its log is not kept: dnsmasq would write where nobody reads, and no lease would ever be seen.
        self._opened(network_id, server.open_log())
        self._servers[network_id] = server
        return server

    def _serves_others(self, network: NetworkSpec) -> bool:
        """Whether ports of this network that are known by now need other entries."""
        before = self._networks.get(uuid_of(network.id))
        return before is not None and served_subnets(before) != served_subnets(network)

    def _ports_of(self, network_ids: Set[str]) -> list[PlumbedPort]:
        if not network_ids:
            return []
        return [port for port in self._ports.values() if uuid_of(port.port.network_id) in network_ids]

    def _entries(
        self, known: dict[str, NetworkSpec], ports: Iterable[PlumbedPort]
    ) -> dict[str, dict[str, tuple[str, ...]]]:
        entries: dict[str, dict[str, tuple[str, ...]]] = {}
        for port in ports:
            network = known.get(uuid_of(port.port.network_id))
            if network is None:
                raise Invalid(f"port {port.port.id} is of a network that is not known here")
            entries.setdefault(uuid_of(network.id), {})[uuid_of(port.port.id)] = host_lines(port, network)
        return entries

    def _texts(self, networks: Iterable[NetworkSpec], options: dict[str, dict[str, tuple[str, ...]]]) -> dict[str, str]:
        """Configurations of those networks that need a server."""
        texts = {}
        for network in networks:
            if serves(network):
                network_id = uuid_of(network.id)
                files = ServerFiles(self._folder / network_id)
                lines = sorted(options.get(network_id, {}).values())  # not by who came first: it would be a change
                texts[network_id] = config_text(network, files, self._settings, lines)
        return texts

    def _replace(self, network_id: str, entries: Entries) -> None:
        """These entries and no others are served."""
        server = self._servers[network_id]
        if server.differs(entries):
            self._retire(network_id, {port for port in server.entries if server.entries[port] != entries.get(port)})
            server.replace(entries)

    def _no_dhcp(self, network_id: str, error: Exception) -> None:
        self._log.error("no DHCP, tried again soon", action="host.dhcp.failed", network=network_id, reason=str(error))

    def _serve(self, network_id: str, text: str) -> None:
        """A server with this configuration runs."""
        server = self._servers.get(network_id) or self._open(network_id)
        changed, running = not server.is_configured(text), server.running
        if running and not changed:
            return
        if running:
            server.stop()
        if changed:
            server.configure(text)
        self._log.info("dhcp", action="host.dhcp.start", network=network_id, changed=changed)
        server.start()
        self._retired6.pop(network_id, None)

    def _add(self, network_id: str, entries: Entries) -> None:
        server = self._servers[network_id]
        new = {port: lines for port, lines in entries.items() if server.entries.get(port, ()) != lines}
        addresses = {mac_and_address_of_line(line)[1] for lines in new.values() for line in lines}
        # An address in other hands means that its former port is gone, whoever forgot to say so.
        stale = {server.addresses[address][0] for address in addresses & server.addresses.keys()}
        if stale or new.keys() & server.entries.keys() or not server.tidy:
            self._retire(network_id, (stale | new.keys()) & server.entries.keys())
            server.replace({p: lines for p, lines in server.entries.items() if p not in stale} | new)
        elif new:
            server.add(new)
        if self._retired6.get(network_id, set()) & addresses:
            # A new server knows no leases: the only way to give a DHCPv6 address to another guest before its time.
            server.stop()
            server.start()
            self._retired6.pop(network_id)

    def _retire(self, network_id: str, ports: Iterable[str]) -> None:
        """Release the leases of entries that are about to go."""
        server = self._servers[network_id]
        pairs = [mac_and_address_of_line(line) for port in ports for line in server.entries.get(port, ())]
        self._retired6.setdefault(network_id, set()).update(address for _, address in pairs if ":" in address)
        network = self._networks.get(network_id)
        leases = [
            (mac, address, subnet.dhcp_address)
            for mac, address in pairs
            for subnet in (serves(network) if network else ())
            if subnet.ip_version == 4 and subnet.dhcp_address
            if ":" not in address and ip_address(address) in ip_network(subnet.cidr, strict=False)
        ]
        try:
            release(bridge_name(network_id), leases)
        except Transient as failure:
            self._log.warning("dhcp", action="host.dhcp.release_failed", network=network_id, reason=failure.message)

    def _end(self, network_id: str) -> None:
        server = self._servers.pop(network_id)
        server.stop()
        self._closed(network_id)
        server.remove_files()
        self._retired6.pop(network_id, None)


def _merged(before: Options, ports: Iterable[PlumbedPort]) -> Options:
    """The options before, with those of these ports in place of what they had."""
    new: Options = {}
    for port in ports:
        new.setdefault(uuid_of(port.port.network_id), {})[uuid_of(port.port.id)] = option_lines(port.port)
    merged = dict(before)
    for network_id, of_ports in new.items():
        every = before.get(network_id, {}) | of_ports
        merged[network_id] = {port_id: lines for port_id, lines in every.items() if lines}
    return merged

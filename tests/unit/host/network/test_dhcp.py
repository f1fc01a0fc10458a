"""How the host's DHCP servers are kept; dnsmasq itself is replaced."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from muster.base.errors import Transient
from muster.domain.specs import FixedIp, NetworkSpec, PortSpec, SubnetSpec
from muster.host.network import dhcp as module
from muster.host.network import dhcp_server
from muster.host.network.dhcp import Dhcp
from muster.host.network.dhcp_server import DhcpFailed, DhcpServer, Entries
from muster.host.network.inotify import ReadWatch
from muster.host.network.settings import NetworkSettings
from muster.host.ports import PlumbedPort

NETWORKS = [f"{number}1111111-1111-4111-8111-111111111111" for number in (1, 2, 3)]
BAD = NETWORKS[1]


def network(network_id: str, gateway: str = "10.0.0.1", *, served: bool = True) -> NetworkSpec:
    subnet = SubnetSpec(
        id="s",
        ip_version=4,
        cidr="10.0.0.0/24",
        dhcp_address="10.0.0.2",
        gateway_ip=gateway,
        dhcp_enabled=served,
    )
    return NetworkSpec(id=network_id, generation=1, segment_id=1, subnets=(subnet,))


def port_of(network_id: str, number: int = 5) -> PlumbedPort:
    port = PortSpec(
        id=f"{network_id[:8]}-2222-4222-8222-{number:012x}",
        network_id=network_id,
        mac_address=f"fa:16:3e:00:00:{number:02x}",
        fixed_ips=(FixedIp("s", f"10.0.0.{number}"),),
    )
    return PlumbedPort("server", "name", port)


class Dnsmasq(DhcpServer):
    """A server that starts unless told otherwise; `up` are the networks whose server runs."""

    up: ClassVar[set[str]] = set()
    broken: ClassVar[set[str]] = set()
    stops: ClassVar[list[str]] = []  # the configurations that stood when a server was ended

    @property
    def network_id(self) -> str:
        return self.files.folder.name

    @property
    def running(self) -> bool:
        return self.network_id in self.up

    def start(self) -> None:
        if self.network_id in self.broken:
            raise DhcpFailed("failed to create inotify: Too many open files")
        self.up.add(self.network_id)

    def stop(self) -> None:
        self.stops.append(self.files.config.read_text(encoding="ascii", errors="replace"))
        self.up.discard(self.network_id)

    def _await(self, watch: ReadWatch, name: str | None) -> None:
        if self.network_id in self.broken:
            raise DhcpFailed("nobody has read it")

    def replace(self, entries: Entries) -> None:
        super().replace(entries)
        if self.network_id in self.broken:
            self.tidy = False
            raise DhcpFailed("nobody has read it")


@pytest.fixture
def dnsmasq(monkeypatch: pytest.MonkeyPatch) -> type[Dnsmasq]:
    monkeypatch.setattr(module, "DhcpServer", Dnsmasq)
    for name in ("up", "broken"):
        monkeypatch.setattr(Dnsmasq, name, set())
    monkeypatch.setattr(Dnsmasq, "stops", [])
    return Dnsmasq


@pytest.fixture
def dhcp(tmp_path: Path, dnsmasq: type[Dnsmasq]) -> Iterator[Dhcp]:
    logs: list[int] = []
    yield Dhcp(NetworkSettings(state_dir=tmp_path), lambda network_id, log: logs.append(log), lambda network_id: None)
    for log in logs:
        os.close(log)


def test_a_server_that_does_not_start_holds_up_no_other_network(
    dhcp: Dhcp, dnsmasq: type[Dnsmasq], capsys: pytest.CaptureFixture[str]
) -> None:
    """A sweep that fails holds back all that the host builds."""
    dnsmasq.broken.add(BAD)
    dhcp.keep([network(network_id) for network_id in NETWORKS], [])
    assert dnsmasq.up == set(NETWORKS) - {BAD}
    assert "Too many open files" in capsys.readouterr().out
    dnsmasq.broken.clear()
    dhcp.revive()
    assert dnsmasq.up == set(NETWORKS)


def test_a_full_disk_at_one_network_leaves_no_other_dead(
    dhcp: Dhcp, dnsmasq: type[Dnsmasq], monkeypatch: pytest.MonkeyPatch
) -> None:
    dhcp.keep([network(network_id) for network_id in NETWORKS], [])

    def compact(self: DhcpServer) -> None:
        if self.files.folder.name == NETWORKS[0]:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Dnsmasq, "compact", compact)
    dnsmasq.up.clear()
    dhcp.revive()
    assert dnsmasq.up == set(NETWORKS[1:])


def test_no_server_runs_beside_a_configuration_that_it_has_not_read(dhcp: Dhcp, dnsmasq: type[Dnsmasq]) -> None:
    """An agent that died in between left a server that the next one took for up to date."""
    dhcp.put([network(BAD)], [])
    dhcp.put([network(BAD, gateway="10.0.0.9")], [])
    assert ["10.0.0.9" in config for config in dnsmasq.stops] == [False]
    assert dnsmasq.up == {BAD}


def test_a_server_whose_log_could_not_be_opened_is_opened_anew(
    dhcp: Dhcp, dnsmasq: type[Dnsmasq], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise no lease of its network is ever seen, and each boot there holds its slot to the end."""
    opened: list[str] = []
    open_log = Dnsmasq.open_log

    def fails_once(self: Dnsmasq) -> int:
        opened.append(self.network_id)
        if len(opened) == 1:
            raise Transient("too many open files")
        return open_log(self)

    monkeypatch.setattr(Dnsmasq, "open_log", fails_once)
    with pytest.raises(Transient):
        dhcp.put([network(BAD)], [])
    dhcp.put([network(BAD)], [])
    assert opened == [BAD, BAD]


def test_a_server_that_is_needed_no_more_ends_and_one_that_is_knows_the_ports_of_before(
    dhcp: Dhcp, dnsmasq: type[Dnsmasq]
) -> None:
    """The network alone is told of when its DHCP is switched on or off: its ports have not changed."""
    plumbed = port_of(BAD)
    port = plumbed.port
    dhcp.put([network(BAD, served=False)], [plumbed])
    assert not dnsmasq.up
    for _ in range(2):
        dnsmasq.broken.add(BAD)
        with pytest.raises(DhcpFailed):
            dhcp.put([network(BAD)], [])
        dnsmasq.broken.clear()
        dhcp.put([network(BAD)], [])
        assert dnsmasq.up == {BAD}
        assert dhcp.who(BAD, "10.0.0.5") == (port.id, port.mac_address)
        dhcp.put([network(BAD, served=False)], [])
        assert not dnsmasq.up
        dhcp.revive()
        assert not dnsmasq.up
    dhcp.remove([port.id])
    dhcp.put([network(BAD)], [])
    assert dhcp.who(BAD, "10.0.0.5") is None


def test_a_server_that_hangs_holds_up_no_removal_from_other_networks(dhcp: Dhcp, dnsmasq: type[Dnsmasq]) -> None:
    """Nothing that had a port was deleted any more, on any network."""
    for network_id in NETWORKS:
        dhcp.put([network(network_id)], [port_of(network_id)])
    dnsmasq.broken.add(BAD)
    with pytest.raises(DhcpFailed):
        dhcp.put([], [port_of(BAD, 6)])
    for network_id in (NETWORKS[0], NETWORKS[2]):
        assert dhcp.who(network_id, "10.0.0.5") is not None
        dhcp.remove([port_of(network_id).port.id])
        assert dhcp.who(network_id, "10.0.0.5") is None


def test_a_removal_that_a_full_disk_stopped_is_tried_again_and_stops_no_other(
    dhcp: Dhcp, dnsmasq: type[Dnsmasq], monkeypatch: pytest.MonkeyPatch
) -> None:
    for network_id in NETWORKS:
        dhcp.put([network(network_id)], [port_of(network_id)])
    write = dhcp_server._write

    def full(path: Path, text: str) -> None:
        if BAD in path.parts:
            raise OSError(28, "No space left on device")
        write(path, text)

    monkeypatch.setattr(dhcp_server, "_write", full)
    gone = [port_of(network_id).port.id for network_id in NETWORKS]
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            dhcp.remove(gone)
        assert not any(dhcp.who(network_id, "10.0.0.5") for network_id in NETWORKS)
    monkeypatch.setattr(dhcp_server, "_write", write)
    dhcp.remove(gone)
    assert all(server.tidy and not server.retired for server in dhcp._servers.values())


@pytest.mark.parametrize("folder", ["J\u00fcrgen's cloud", os.fsdecode(b"\xff")])
def test_a_folder_may_have_any_name(dnsmasq: type[Dnsmasq], tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    logs: list[int] = []
    settings = NetworkSettings(state_dir=tmp_path / folder)
    dhcp = Dhcp(settings, lambda network_id, log: logs.append(log), lambda network_id: None)
    try:
        dhcp.put([network(BAD)], [])
        dhcp.put([network(BAD)], [])
        assert (dnsmasq.up, dnsmasq.stops) == ({BAD}, [])
    finally:
        for log in logs:
            os.close(log)


def test_a_configuration_that_a_crash_has_damaged_is_written_anew(dhcp: Dhcp, dnsmasq: type[Dnsmasq]) -> None:
    dhcp.put([network(BAD)], [])
    config = dhcp._servers[BAD].files.config
    good = config.read_bytes()
    config.write_bytes(b"\0\xff" + good[2:])
    dnsmasq.up.clear()
    dhcp.keep([network(BAD)], [])
    assert dnsmasq.up == {BAD}
    assert config.read_bytes() == good

"""How the host's DHCP servers are kept; dnsmasq itself is replaced."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from muster.base.errors import Transient
from muster.domain.specs import FixedIp, NetworkSpec, PortSpec, SubnetSpec
from muster.host.network import dhcp as module
from muster.host.network.dhcp import Dhcp
from muster.host.network.dhcp_server import DhcpFailed, DhcpServer
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
        self.stops.append(self.files.config.read_text(encoding="ascii"))
        self.up.discard(self.network_id)

    def _await(self, watch: ReadWatch, name: str | None) -> None:
        if self.network_id in self.broken:
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
    port = PortSpec(
        id="22222222-2222-4222-8222-222222222222",
        network_id=BAD,
        mac_address="fa:16:3e:00:00:01",
        fixed_ips=(FixedIp("s", "10.0.0.5"),),
    )
    dhcp.put([network(BAD, served=False)], [PlumbedPort("server", "name", port)])
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

"""Which ports' addresses may come from leases, and what a process has in stock."""

from muster.domain.leases import Lease, Stock, ahead, demand_of
from muster.domain.port_batch import NetworkPicture, SubnetPicture
from muster.domain.ports import NewPort, WantedIp


def _subnet(name: str, version: int = 4, mode: str | None = None) -> SubnetPicture:
    return SubnetPicture(
        id=name,
        network_id="n",
        ip_version=version,
        cidr="10.0.0.0/24" if version == 4 else "fd00::/64",
        gateway_ip=None,
        enable_dhcp=False,
        ipv6_address_mode=mode,
    )


def _network(*subnets: SubnetPicture) -> dict[str, NetworkPicture]:
    network = NetworkPicture(id="n", project_id="p", shared=False, port_security_enabled=True, subnets=subnets)
    return {"n": network}


def _port(fixed_ips: tuple[WantedIp, ...] | None = None, network_id: str = "n") -> NewPort:
    return NewPort(id="x", project_id="p", network_id=network_id, fixed_ips=fixed_ips)


def test_any_address_of_each_version_may_come_from_leases():
    networks = _network(_subnet("a"), _subnet("b"), _subnet("six", 6))
    assert demand_of([_port(), _port()], networks) == {("a", "b"): 2, ("six",): 2}


def test_what_wants_no_address_or_will_be_refused_needs_none():
    networks = _network(_subnet("a"))
    unknown = (WantedIp(subnet_id="other"),)
    assert demand_of([_port(()), _port(unknown), _port(network_id="none")], networks) == {}


def test_names_and_addresses_that_guests_make_are_decided_under_the_lock():
    named = (WantedIp(ip_address="10.0.0.9"),)
    assert demand_of([_port(), _port(named)], _network(_subnet("a"))) is None
    assert demand_of([_port()], _network(_subnet("a"), _subnet("s", 6, "slaac"))) is None


def test_so_is_a_subnet_that_some_name_and_others_only_come_to():
    networks = _network(_subnet("a"), _subnet("b"))
    assert demand_of([_port(), _port((WantedIp(subnet_id="b"),))], networks) is None
    assert demand_of([_port((WantedIp(subnet_id="b"),))], networks) == {("b",): 1}


def test_a_batch_leases_a_little_more_than_it_needs_but_never_much_of_what_is_left():
    assert [ahead(count, 1 << 20) for count in (1, 100, 5_000)] == [256, 256, 500]
    assert [ahead(100, free) for free in (0, 7, 80)] == [0, 0, 10]


def test_stock_gives_the_oldest_first_and_forgets_what_is_over():
    stock = Stock()
    stock.put([Lease("a", 1, 10.0), Lease("a", 2, 20.0), Lease("b", 3, 20.0), Lease("a", 4, 20.0)])
    assert stock.take(("a", "b"), 2, now=10.0) == [Lease("a", 2, 20.0), Lease("a", 4, 20.0)]
    assert stock.take(("a", "b"), 2, now=10.0) == [Lease("b", 3, 20.0)]
    stock.put([Lease("a", 5, 20.0)])
    stock.forget("a")
    assert stock.take(("a", "b"), 2, now=10.0) == []

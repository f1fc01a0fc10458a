"""Which host gets a server: spread by default, packed on request. Properties: tests/property/test_placement.py."""

from collections import Counter

from muster.domain.placement import Demand, HostPicture, Request, Strategy, place


def _hosts(*ram_mib: int, vcpus: int = 100) -> list[HostPicture]:
    return [
        HostPicture(
            id=f"h{n}",
            hostname=f"h{n}",
            availability_zone="a",
            firewall=False,
            free=Demand(vcpus=vcpus, ram_mib=ram, disk_gib=100),
            ram_limit_mib=100,
        )
        for n, ram in enumerate(ram_mib)
    ]


def _requests(count: int, ram_mib: int = 10, vcpus: int = 1) -> list[Request]:
    demand = Demand(vcpus=vcpus, ram_mib=ram_mib, disk_gib=1)
    return [Request(server_id=f"s{ram_mib}-{vcpus}-{n}", demand=demand) for n in range(count)]


def test_servers_are_spread_over_the_hosts_with_the_most_memory_left() -> None:
    assert Counter(place(_hosts(100, 100, 100, 100), _requests(20)).values()) == {"h0": 5, "h1": 5, "h2": 5, "h3": 5}


def test_packed_ten_servers_are_on_one_host() -> None:
    placed = place(_hosts(100, 100, 100, 100), _requests(10), Strategy.PACK)
    assert len(placed) == 10
    assert len(set(placed.values())) == 1


def test_packed_the_fullest_host_that_can_take_it_gets_a_server() -> None:
    assert Counter(place(_hosts(100, 30, 5), _requests(5), Strategy.PACK).values()) == {"h1": 3, "h0": 2}


def test_packed_a_host_that_another_kind_filled_is_still_there_for_a_smaller_one() -> None:
    requests = [*_requests(1, 60), *_requests(1, 50), *_requests(1, 40)]
    assert list(place(_hosts(100, 120), requests, Strategy.PACK).values()) == ["h0", "h1", "h0"]


def test_without_processors_left_memory_does_not_count() -> None:
    hosts = [*_hosts(50, vcpus=1), *(_hosts(40, 100)[1:])]
    for strategy in Strategy:
        assert set(place(hosts, _requests(2, vcpus=2), strategy).values()) == {"h1"}

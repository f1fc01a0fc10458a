"""The benchmark's own inspection finds what must not be."""

from typing import Any, cast

import pytest

from benchmarks.inspection import Host, HostList, Inspection, Need, Seen, SeenPage
from muster.bench.records import ServerRecord
from muster.client.api import Api
from muster.client.bodies import Link, ServerAddress

NEED = Need(ram_mib=512, vcpus=1)


def host(name: str, used_mib: int = 0) -> Host:
    return Host(hypervisor_hostname=name, memory_mb=1_000, memory_mb_used=used_mib, vcpus=2, vcpus_used=0)


class FakeApi:
    """Answers with these pages of servers, one after the other, and with these hosts."""

    def __init__(self, hosts: list[Host], *pages: list[Seen]) -> None:
        self._hosts = hosts
        self._pages = list(pages)

    async def get(self, call: Any, kind: Any) -> SeenPage | HostList:
        if kind is HostList:
            return HostList(self._hosts)
        servers = self._pages.pop(0)
        return SeenPage(servers, [Link("more", "next")] if self._pages else [])


def seen(number: int, host: str = "a", status: str = "ACTIVE", address: str | None = None) -> Seen:
    given = {"net": [ServerAddress(address or f"10.0.0.{number}")]}
    return Seen(f"id-{number}", f"bench-0-{number:05d}", status, host, given)


async def look(*pages: list[Seen], records: int = 2, used_mib: int = 0) -> Inspection:
    inspection = Inspection(NEED)
    made = [ServerRecord(index=n, name=f"bench-0-{n:05d}", id=f"id-{n}") for n in range(records)]
    await inspection.look(cast(Api, FakeApi([host("a", used_mib), host("full")], *pages)), made)
    return inspection


def wrong(inspection: Inspection) -> tuple[int, int, int, int]:
    return (inspection.missing, inspection.not_active, inspection.shared_addresses, inspection.overfull_hosts)


@pytest.mark.parametrize(
    ("pages", "found"),
    [
        ([[seen(0), seen(1)]], (0, 0, 0, 0)),
        ([[seen(0)], [seen(1)]], (0, 0, 0, 0)),
        ([[seen(0)]], (1, 0, 0, 0)),
        ([[seen(0), seen(1, status="ERROR")]], (0, 1, 0, 0)),
    ],
)
async def test_missing_and_broken_servers(pages: list[list[Seen]], found: tuple[int, int, int, int]) -> None:
    assert wrong(await look(*pages)) == found


async def test_an_address_given_twice() -> None:
    assert (await look([seen(0, address="10.0.0.9"), seen(1, address="10.0.0.9")])).shared_addresses > 0


async def test_a_host_beyond_its_memory() -> None:
    # 1,000 MiB by 1.2 hold two servers of 512 MiB, not three.
    full = [seen(number, host="full") for number in range(2)]
    assert (await look(full)).overfull_hosts == 0
    over = [seen(number, host="full") for number in range(3)]
    assert (await look(over, records=3)).overfull_hosts == 1


async def test_a_host_whose_books_are_beyond_its_memory() -> None:
    assert (await look([seen(0), seen(1)], used_mib=1_200)).overfull_hosts == 0
    assert (await look([seen(0), seen(1)], used_mib=1_201)).overfull_hosts == 1


async def test_a_server_on_a_host_that_nobody_knows() -> None:
    assert (await look([seen(0), seen(1, host="elsewhere")])).overfull_hosts == 1


def test_processors_count_too() -> None:
    many_cpus = Need(ram_mib=1, vcpus=3)
    assert host("a").holds(1, many_cpus)
    assert not host("a").holds(2, many_cpus)

"""A host with less memory than its guests ask for, and guests that really touch theirs: nothing is killed."""

import base64
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("libvirt")

from memory_group import MemoryGroup, can_limit, limited
from real_cloud import RealCloud, address_of, allow, real_cloud
from tests.waiting import eventually

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.root,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not can_limit(), reason="control groups cannot be made here"),
]

LIMIT_MIB = 2048
RAM_MIB = 256
#: What a guest takes of its own: all but what its kernel and what stands on its disk need.
FILL_MIB = 170
SERVERS = 8
FILL = f"""#!/bin/sh
mkdir -p /fill && mount -t tmpfs -o size=100% fill /fill
dd if=/dev/zero of=/fill/all bs=1M count={FILL_MIB} && echo filled > /run/filled
"""
#: Says it once the guest has filled its memory.
FILLED = f"test -s /run/filled && wc -c < /fill/all | grep -qx {FILL_MIB * 2**20} && echo yes"
READ_METRICS = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())"


@pytest.fixture(scope="module")
def group() -> Iterator[MemoryGroup]:
    with limited(LIMIT_MIB) as group:
        yield group


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory, group: MemoryGroup) -> Iterator[RealCloud]:
    """A cloud that accepts whatever is asked of it: memory is overcommitted ten times."""
    arguments = ("--sim-hosts", "0", "--cpu-overcommit", "5", "--ram-overcommit", "10", "--ksm", "off")
    folder: Path = tmp_path_factory.mktemp("full")
    with real_cloud(folder, *arguments, within=group.prefix) as cloud:
        public = cloud.key.with_suffix(".pub").read_text()
        cloud.ask("POST", "/compute/v2.1/os-keypairs", {"keypair": {"name": "mine", "public_key": public}})
        allow(cloud, protocol="tcp", port_range_min=22, port_range_max=22)
        flavor = {"name": "filled", "id": "filled", "ram": RAM_MIB, "vcpus": 1, "disk": 0}
        cloud.ask("POST", "/compute/v2.1/flavors", {"flavor": flavor})
        yield cloud


def by_status(cloud: RealCloud) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for server in cloud.ask("GET", "/compute/v2.1/servers/detail")["servers"]:
        found.setdefault(server["status"], []).append(server["id"])
    return found


def metric(cloud: RealCloud, start: str) -> float:
    text = cloud.inside(sys.executable, "-c", READ_METRICS, f"{cloud.base_url}/metrics").stdout
    [line] = [line for line in text.splitlines() if line.startswith(start)]
    return float(line.rsplit(" ", 1)[1])


def all_filled(cloud: RealCloud, server_ids: list[str]) -> bool:
    addresses = [address_of(cloud.server(server_id)) for server_id in server_ids]
    return all((cloud.ssh(address, FILLED) or "").strip() == "yes" for address in addresses)


def test_a_host_that_is_full_of_guests_kills_none_and_lets_the_rest_wait(cloud: RealCloud, group: MemoryGroup) -> None:
    [hypervisor] = cloud.ask("GET", "/compute/v2.1/os-hypervisors/detail", version="2.50")["hypervisors"]
    assert hypervisor["memory_mb"] == LIMIT_MIB, "the limit of the group is the host's memory"
    data = base64.b64encode(FILL.encode()).decode()
    for number in range(SERVERS):
        cloud.create_server(f"full-{number}", flavorRef="filled", key_name="mine", user_data=data)

    eventually("boots are held", lambda: "boots.held" in cloud.log(), 900, every_s=2)
    quiet_since, before = time.monotonic(), by_status(cloud)
    while time.monotonic() - quiet_since < 40:  # longer than a guest counts as one that has just started
        time.sleep(4)
        if (now := by_status(cloud)) != before:
            quiet_since, before = time.monotonic(), now
    up, waiting = before.get("ACTIVE", []), before.get("BUILD", [])
    sys.stdout.write(f"{len(up)} guests run, {len(waiting)} wait; peak {group.peak_mib()} of {LIMIT_MIB} MiB\n")
    assert set(before) == {"ACTIVE", "BUILD"}, before
    assert len(up) >= 3, "the host is used"
    assert len(waiting) >= 2, "the host would not hold all"

    eventually("all that run have filled their memory", lambda: all_filled(cloud, up), 600, every_s=2)
    assert group.kills() == 0
    assert metric(cloud, "muster_host_boots_held{") == 1
    assert metric(cloud, 'muster_queue_items{coalescer="boot"}') == len(waiting)
    assert group.peak_mib() > 0.7 * LIMIT_MIB, "the host was filled"

    for server_id in up[:2]:
        cloud.delete(server_id)
    eventually("the next ones start", lambda: len(by_status(cloud)["ACTIVE"]) >= len(up), 600, every_s=2)
    now_up = by_status(cloud)["ACTIVE"]
    eventually("they too have filled their memory", lambda: all_filled(cloud, now_up), 600, every_s=2)
    assert group.kills() == 0
    for server_id in (*now_up, *waiting):
        with suppress(AssertionError):  # it is gone
            cloud.delete(server_id)
    eventually("boots are not held any more", lambda: metric(cloud, "muster_host_boots_held{") == 0, 60)

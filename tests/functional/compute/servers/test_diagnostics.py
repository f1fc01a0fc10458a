"""Diagnostics: asked of the host, shown in the form of the microversion, for administrators."""

import pytest

from muster.base.errors import Conflict
from muster.domain.diagnostics import CardCounts, Diagnostics, DiskCounts
from muster.host.hypervisor.sim import SimHypervisor

from .conftest import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOUND = Diagnostics(
    hypervisor="kvm",
    ram_max_mib=512,
    ram_used_mib=300,
    cpu_times_ns=(5, None),
    cards=(CardCounts(name="tap1", mac_address="fa:16:3e:00:00:01", rx_octets=10, tx_packets=3),),
    disks=(DiskCounts(name="vda", read_bytes=7, write_requests=2),),
)


async def test_of_a_guest_that_is_counted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(_hypervisor: SimHypervisor, server_id: str) -> Diagnostics:
        assert server_id == made
        return FOUND

    made = await scene.server()
    monkeypatch.setattr(SimHypervisor, "diagnostics", found)
    path = f"/servers/{made}/diagnostics"
    shown = await scene.admin.get(path, v="2.48")
    assert shown.pop("uptime") >= 0
    unknown = dict.fromkeys(["rx_errors", "rx_drop", "rx_packets", "rx_rate", "tx_octets", "tx_errors", "tx_drop"])
    card = {"mac_address": "fa:16:3e:00:00:01", "rx_octets": 10, "tx_packets": 3, "tx_rate": None, **unknown}
    disk = {"read_bytes": 7, "read_requests": None, "write_bytes": None, "write_requests": 2, "errors_count": None}
    assert shown == {
        "state": "running",
        "driver": "libvirt",
        "hypervisor": "kvm",
        "hypervisor_os": "linux",
        "config_drive": False,
        "num_cpus": 1,
        "num_nics": 1,
        "num_disks": 1,
        "memory_details": {"maximum": 512, "used": 300},
        "cpu_details": [{"id": 0, "time": 5, "utilisation": None}, {"id": 1, "time": None, "utilisation": None}],
        "nic_details": [card],
        "disk_details": [disk],
    }
    assert await scene.admin.get(path, v="2.47") == {
        "memory": 512 * 1024,
        "memory-rss": 300 * 1024,
        "cpu0_time": 5,
        "vda_read": 7,
        "vda_write_req": 2,
        "tap1_rx": 10,
        "tap1_tx_packets": 3,
    }


async def test_of_a_simulated_guest(scene: Scene) -> None:
    path = f"/servers/{await scene.server()}/diagnostics"
    shown = await scene.admin.get(path, v="2.90")
    assert (shown["hypervisor"], shown["num_nics"], shown["cpu_details"]) == ("sim", 0, [])
    assert shown["memory_details"]["maximum"] > 0
    assert set(await scene.admin.get(path)) == {"memory"}


async def test_of_what_does_not_run(scene: Scene) -> None:
    server_id = await scene.server()
    path = f"/servers/{server_id}/diagnostics"
    for one in (scene.member, scene.reader, scene.other):
        assert (await one.refusal("GET", path))[0] == 403
    assert (await scene.admin.refusal("GET", "/servers/none/diagnostics"))[0] == 404
    await scene.member.post(f"/servers/{server_id}/action", {"os-stop": None}, status=202)
    await scene.until(server_id, "SHUTOFF")
    status, _, message = await scene.admin.refusal("GET", path)
    assert (status, message) == (409, f"Instance {server_id} has no diagnostics: the guest does not run")


async def test_a_host_that_cannot_say(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_hypervisor: SimHypervisor, _server_id: str) -> Diagnostics:
        raise error

    monkeypatch.setattr(SimHypervisor, "diagnostics", broken)
    path = f"/servers/{await scene.server()}/diagnostics"
    for error in (RuntimeError("/secret/path"), Conflict("no")):  # noqa: B007 - raised above
        status, _, message = await scene.admin.refusal("GET", path)
        assert status == 409
        assert "/secret" not in message

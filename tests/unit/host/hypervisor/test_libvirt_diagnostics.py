"""libvirt's flat statistics as values. The statistics are those of a guest under QEMU 7.2, shortened."""

from muster.domain.diagnostics import CardCounts, Diagnostics, DiskCounts
from muster.host.hypervisor.libvirt.diagnostics import counted

STATS = {
    "state.state": 1,
    "balloon.current": 32768,
    "balloon.maximum": 32768,
    "balloon.rss": 120000,
    "vcpu.current": 1,
    "vcpu.maximum": 2,
    "vcpu.0.state": 1,
    "vcpu.0.time": 1_230_000_000,
    "net.count": 1,
    "net.0.name": "tap-1",
    "net.0.rx.bytes": 70,
    "net.0.rx.pkts": 1,
    "net.0.rx.errs": 0,
    "net.0.rx.drop": 3,
    "net.0.tx.bytes": 140,
    "net.0.tx.pkts": 2,
    "net.0.tx.errs": 0,
    "net.0.tx.drop": 0,
    "block.count": 1,
    "block.0.name": "vda",
    "block.0.rd.reqs": 10,
    "block.0.rd.bytes": 4096,
    "block.0.wr.reqs": 1,
    "block.0.wr.bytes": 512,
}


def test_all_that_is_counted() -> None:
    card = CardCounts(
        name="tap-1",
        mac_address="fa:16:3e:00:00:01",
        rx_octets=70,
        rx_packets=1,
        rx_errors=0,
        rx_drop=3,
        tx_octets=140,
        tx_packets=2,
        tx_errors=0,
        tx_drop=0,
    )
    disk = DiskCounts(name="vda", read_bytes=4096, read_requests=10, write_bytes=512, write_requests=1)
    assert counted(STATS, {"tap-1": "fa:16:3e:00:00:01"}, "kvm") == Diagnostics(
        hypervisor="kvm",
        ram_max_mib=32,
        ram_used_mib=117,
        cpu_times_ns=(1_230_000_000, None),
        cards=(card,),
        disks=(disk,),
    )


def test_what_is_not_counted_is_not_made_up() -> None:
    found = counted({"state.state": 3, "net.count": 1, "net.0.name": "tap-2"}, {"tap-1": "x"}, "qemu")
    assert found == Diagnostics(hypervisor="qemu", paused=True, cards=(CardCounts(name="tap-2"),))

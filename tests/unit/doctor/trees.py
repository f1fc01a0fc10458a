"""Made-up hosts: trees of the files that `muster doctor` reads."""

from pathlib import Path

from muster.doctor.diagnosis import CHECKS
from muster.doctor.facts import Facts
from muster.doctor.findings import Level, Plan, Result
from muster.doctor.reader import read_facts

QUIET = {
    "/proc/cpuinfo": "processor : 0\nflags : fpu vmx rdrand\n",
    "/proc/meminfo": (
        "MemTotal: 65536000 kB\nSwapTotal: 8000000 kB\nSwapFree: 8000000 kB\n"
        "HugePages_Total: 0\nHugePages_Free: 0\nHugepagesize: 2048 kB\n"
    ),
    "/proc/modules": "kvm_intel 1 0 - Live 0x0\nkvm 1 1 kvm_intel, Live 0x0\n",
    "/proc/pressure/cpu": "some avg10=0.00\n",
    "/proc/pressure/io": "some avg10=0.00\n",
    "/proc/pressure/memory": "some avg10=0.00\n",
    "/proc/1/comm": "systemd\n",
    "/proc/self/cgroup": "0::/user.slice\n",
    "/proc/self/limits": "Max processes  unlimited unlimited processes\nMax open files  1048576 1048576 files\n",
    "/proc/sys/kernel/osrelease": "6.12.90\n",
    "/proc/version": "Linux version 6.12.90\n",
    "/proc/sys/fs/file-max": "9223372036854775807\n",
    "/proc/sys/fs/nr_open": "1048576\n",
    "/proc/sys/fs/inotify/max_user_instances": "8192\n",
    "/proc/sys/fs/inotify/max_user_watches": "1048576\n",
    "/proc/sys/kernel/pid_max": "4194304\n",
    "/proc/sys/kernel/threads-max": "1000000\n",
    "/proc/sys/vm/max_map_count": "65530\n",
    "/proc/sys/vm/overcommit_memory": "0\n",
    "/proc/sys/vm/overcommit_ratio": "50\n",
    "/proc/sys/net/ipv4/tcp_keepalive_time": "60\n",
    "/proc/sys/net/ipv4/tcp_keepalive_intvl": "10\n",
    "/proc/sys/net/ipv4/tcp_keepalive_probes": "6\n",
    "/sys/kernel/mm/ksm/run": "1\n",
    "/sys/kernel/mm/ksm/pages_to_scan": "4000\n",
    "/sys/kernel/mm/ksm/sleep_millisecs": "20\n",
    "/sys/kernel/mm/ksm/pages_sharing": "25600\n",
    "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "/sys/module/apparmor/parameters/enabled": "Y\n",
    "/sys/module/kvm_intel/parameters/nested": "Y\n",
    "/sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "/sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc hpet acpi_pm\n",
    "/run/systemd/timesync/synchronized": "",
    "/dev/kvm": "",
    **{
        f"/proc/sys/net/{family}/neigh/default/gc_thresh{n}": f"{4096 * n}\n"
        for family in ("ipv4", "ipv6")
        for n in (1, 2, 3)
    },
}

_UNIT = "[Unit]\nAfter=network.target\n"

COMPUTE = {
    **QUIET,
    "/proc/sys/kernel/osrelease": "5.15.0-91-generic\n",
    "/proc/version": "Linux version 5.15.0-91-generic (buildd@lcy02) #101-Ubuntu SMP\n",
    "/proc/version_signature": "Ubuntu 5.15.0-91.101-generic 5.15.131\n",
    "/proc/sys/fs/inotify/max_user_instances": "128\n",
    "/proc/sys/net/ipv4/tcp_keepalive_time": "7200\n",
    "/proc/sys/net/netfilter/nf_conntrack_max": "262144\n",
    "/proc/sys/net/netfilter/nf_conntrack_count": "250000\n",
    "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established": "432000\n",
    **{f"/proc/sys/net/ipv4/neigh/default/gc_thresh{n}": f"{2 ** (6 + 2 * n - (n > 2))}\n" for n in (1, 2, 3)},
    "/sys/kernel/mm/ksm/run": "0\n",
    "/var/lib/dpkg/status": "".join(
        f"Package: {name}\nStatus: install ok installed\nVersion: {version}\n\n"
        for name, version in {
            "qemu-system-x86": "1:6.2+dfsg-2ubuntu6.16",
            "libvirt-daemon": "8.0.0-1ubuntu7.8",
            "openvswitch-switch": "2.17.5-0ubuntu0.22.04.1",
            "dnsmasq-base": "2.86-1.1ubuntu0.3",
        }.items()
    ),
    "/etc/libvirt/libvirtd.conf": "#max_clients = 5000\nmax_clients = 20\nmax_workers = 20\n",
    "/etc/libvirt/qemu.conf": 'user = "libvirt-qemu"\n#security_driver = "selinux"\nmax_processes = 4096\n',
    "/etc/nova/nova.conf": (
        "[DEFAULT]\ntransport_url = rabbit://nova:SECRET@10.0.0.5:5672/\nram_allocation_ratio = 1.5\n"
        "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 0\n"
    ),
    "/etc/neutron/neutron.conf": (
        "[DEFAULT]\ntransport_url = rabbit://neutron:SECRET@10.0.0.5:5672/\n"
        "[agent]\nroot_helper = sudo /usr/bin/neutron-rootwrap /etc/neutron/rootwrap.conf\n"
    ),
    "/etc/neutron/plugins/ml2/openvswitch_agent.ini": "[securitygroup]\nfirewall_driver = openvswitch\n",
    "/proc/100/comm": "libvirtd\n",
    "/proc/100/cmdline": "/usr/sbin/libvirtd\0--timeout\0120\0",
    "/proc/100/cgroup": "0::/system.slice/libvirtd.service\n",
    "/proc/100/limits": "Max processes  256000 256000 processes\nMax open files  8192 524288 files\n",
    "/sys/fs/cgroup/system.slice/libvirtd.service/pids.max": "32768\n",
    "/proc/200/comm": "dnsmasq\n",
    "/proc/200/cmdline": (
        "dnsmasq\0--no-hosts\0--interface=tap1\0--dhcp-range=set:a,10.0.0.0,static\0--dhcp-lease-max=256\0"
        "--dhcp-script=/usr/bin/neutron-dhcp-agent-dnsmasq-lease-update\0"
    ),
    "/proc/201/comm": "dnsmasq\n",
    "/proc/201/cmdline": (
        "dnsmasq\0--bind-dynamic\0--interface=tap2\0--dhcp-range=10.1.0.0,static\0--conf-file=/run/d2\0"
    ),
    "/run/d2": "dhcp-lease-max=4096\nleasefile-ro\n",
    "/usr/lib/systemd/system/libvirtd.service": _UNIT,
    "/usr/lib/systemd/system/openvswitch-switch.service": "[Unit]\nAfter=ovs-vswitchd.service\n",
    "/usr/lib/systemd/system/ovs-vswitchd.service": "[Unit]\nBefore=network.target\n",
    "/usr/lib/systemd/system/nova-compute.service": "[Unit]\nAfter=postgresql.service\n",
    "/etc/systemd/system/nova-compute.service.d/order.conf": "[Unit]\nAfter=libvirtd.service\n",
    "/usr/lib/systemd/system/neutron-openvswitch-agent.service": "[Unit]\nAfter=syslog.target\n",
    **{
        f"/etc/systemd/system/multi-user.target.wants/{unit}.service": ""
        for unit in (
            "libvirtd",
            "openvswitch-switch",
            "ovs-vswitchd",
            "nova-compute",
            "neutron-openvswitch-agent",
            "networking",
        )
    },
    "/usr/lib/systemd/system/networking.service": "[Unit]\nWants=network.target\n",
}

MUSTER_HOST = {
    **QUIET,
    "/proc/version": "Linux version 6.1.0-50-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.170-1 (2026-05-09)\n",
    "/proc/sys/kernel/osrelease": "6.1.0-50-amd64\n",
    "/var/lib/dpkg/status": (
        "Package: libvirt-daemon\nStatus: install ok installed\nVersion: 9.0.0-4+deb12u2\n\n"
        "Package: dnsmasq-base\nStatus: install ok installed\nVersion: 2.90-4~deb12u1\n\n"
        "Package: openvswitch-switch\nStatus: deinstall ok config-files\nVersion: 3.1.0-2\n"
    ),
    "/etc/muster/host.toml": '[engines]\nbus_url = "amqp://muster:SECRET@10.0.0.11/muster?heartbeat_s=5"\n',
    "/etc/systemd/system/muster-host.service": (
        "[Unit]\nWants=network-online.target\nAfter=network-online.target\n[Service]\nKillMode=process\n"
    ),
    "/etc/systemd/system/multi-user.target.wants/muster-host.service": "",
    "/proc/300/comm": "dnsmasq\n",
    "/proc/300/cmdline": "dnsmasq\0--conf-file=/var/lib/muster-host/dnsmasq.conf\0",
    "/var/lib/muster-host/dnsmasq.conf": (
        "bind-dynamic\ninterface=br1\ndhcp-range=10.80.0.0,static\nleasefile-ro\ndhcp-lease-max=65535\n"
    ),
    "/verdict.json": '{"accelerator": "kvm", "reason": "a guest has booted", "circumstances": ""}',
}


def written(folder: Path, files: dict[str, str]) -> Path:
    """The tree of such files."""
    for path, text in files.items():
        place = folder / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return folder


def facts_of(folder: Path, files: dict[str, str]) -> Facts:
    """What is read of such a tree."""
    return read_facts(written(folder, files), verdict=Path("/verdict.json"))


def results(check_id: str, facts: Facts, guests: int = 100, idle_timeout_s: int | None = None) -> list[Result]:
    """What one check says."""
    check = next(check for check in CHECKS if check.id == check_id)
    return list(check.run(facts, Plan(guests=guests, idle_timeout_s=idle_timeout_s)))


def level(check_id: str, facts: Facts, guests: int = 100, idle_timeout_s: int | None = None) -> Level:
    """The worst that one check says."""
    return min((result.level for result in results(check_id, facts, guests, idle_timeout_s)), key=list(Level).index)

"""Each check over made-up hosts: good, bad, absent, unreadable."""

import io
import os
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console
from tests.unit.doctor.trees import COMPUTE, MUSTER_HOST, QUIET, facts_of, level, results, written

from muster.doctor.console import drawn
from muster.doctor.diagnosis import CHECKS, diagnose, planned_guests
from muster.doctor.facts import Facts, Reading
from muster.doctor.findings import Level, Plan
from muster.doctor.reader import read_facts
from muster.doctor.texts import libvirt_settings

GOOD, ADVICE, PROBLEM, NOT_KNOWN = Level.GOOD, Level.ADVICE, Level.PROBLEM, Level.NOT_KNOWN
LIMITS = "Max processes  {tasks} {tasks} processes\nMax open files  {files} {files} files\n"
DAEMON = {
    "/proc/9/comm": "libvirtd",
    "/proc/9/cmdline": "libvirtd\0",
    "/proc/9/cgroup": "0::/s",
    "/proc/9/limits": LIMITS.format(tasks=9999, files=9999),
}
SERVER = {"/proc/7/comm": "dnsmasq", "/proc/7/cmdline": "dnsmasq\0--dhcp-range=10.0.0.0,static\0--leasefile-ro\0"}
SECOND = {"/proc/8/comm": "dnsmasq", "/proc/8/cmdline": "dnsmasq\0--dhcp-range=10.1.0.0,static\0-z\0-i\0tap2\0"}
LIBVIRT = {"/etc/libvirt/libvirtd.conf": "", "/etc/libvirt/qemu.conf": ""}
SYS = "/proc/sys/"
KSM_OFF = {"/sys/kernel/mm/ksm/run": "0"}
UNIT = {"/etc/systemd/system/muster-host.service": "[Unit]\n"}
AGENT = {"/proc/6/comm": "muster", "/proc/6/cmdline": "python3\0/usr/bin/muster\0up\0--libvirt\0"}

CASES: list[tuple[str, dict[str, str], Level]] = [
    ("cpu.virtualization", {"/proc/cpuinfo": "flags : fpu"}, PROBLEM),
    ("cpu.virtualization", {"/proc/cpuinfo": "Features : fp asimd"}, GOOD),
    ("cpu.muster-probe", {"/verdict.json": '{"accelerator": "kvm"}'}, GOOD),
    ("cpu.muster-probe", {"/verdict.json": '{"accelerator": "qemu", "reason": "it hung"}'}, PROBLEM),
    ("cpu.muster-probe", {"/verdict.json": "["}, NOT_KNOWN),
    ("cpu.governor", {"/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave"}, ADVICE),
    ("cpu.governor", {"/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance"}, GOOD),
    ("clock.source", {"/sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet"}, PROBLEM),
    ("memory.ksm", KSM_OFF, ADVICE),
    ("memory.ksm", KSM_OFF | AGENT, GOOD),
    ("memory.ksm", KSM_OFF | AGENT | {"/proc/6/cmdline": "muster\0up\0--libvirt\0--ksm\0off\0"}, ADVICE),
    ("memory.ksm", KSM_OFF | AGENT | {"/proc/6/cmdline": "muster\0up\0--libvirt\0--ksm=off\0"}, ADVICE),
    ("memory.ksm", KSM_OFF | AGENT | {"/proc/6/cmdline": "muster\0up\0"}, ADVICE),
    ("memory.ksm", KSM_OFF | UNIT | {"/etc/muster/host.toml": "[engines]\n"}, GOOD),
    ("memory.ksm", KSM_OFF | UNIT | {"/etc/muster/host.toml": "[host]\nksm = 'off'\n"}, ADVICE),
    ("memory.ksm", KSM_OFF | UNIT | {"/etc/muster/host.toml": "["}, ADVICE),
    ("memory.ksm", {"/sys/kernel/mm/ksm/pages_to_scan": "50"}, ADVICE),
    ("memory.transparent-huge-pages", {"/sys/kernel/mm/transparent_hugepage/enabled": "always [never]"}, ADVICE),
    ("memory.transparent-huge-pages", {"/sys/kernel/mm/transparent_hugepage/enabled": "?"}, NOT_KNOWN),
    ("memory.huge-pages", {"/proc/meminfo": "HugePages_Total: 9\nHugePages_Free: 9\nHugepagesize: 2048 kB"}, ADVICE),
    ("memory.huge-pages", {"/proc/meminfo": "HugePages_Total: 9\nHugePages_Free: 1\nHugepagesize: 2048 kB"}, GOOD),
    ("memory.overcommit", {SYS + "vm/overcommit_memory": "2"}, PROBLEM),
    ("memory.swap", {"/proc/meminfo": "SwapTotal: 0 kB\nSwapFree: 0 kB"}, ADVICE),
    ("memory.swap", {"/proc/meminfo": "SwapTotal: 9 kB\nSwapFree: 1 kB\nMemAvailable: 7 kB"}, PROBLEM),
    ("memory.swap", {"/proc/meminfo": "SwapTotal: 9 kB\nSwapFree: 1 kB\nMemAvailable: 900 kB"}, GOOD),
    ("memory.group", DAEMON | {"/sys/fs/cgroup/s/memory.max": str(8 << 30)}, PROBLEM),
    ("memory.group", DAEMON | {"/sys/fs/cgroup/s/memory.max": str(60 << 30)}, GOOD),
    ("memory.group", DAEMON | {"/sys/fs/cgroup/s/memory.max": "max"}, GOOD),
    (
        "memory.group",
        DAEMON | {"/proc/9/cgroup": "9:memory:/m\n", "/sys/fs/cgroup/memory/m/memory.limit_in_bytes": str(8 << 30)},
        PROBLEM,
    ),
    ("memory.reserved", {"/etc/nova/nova.conf": "[DEFAULT]\n"}, ADVICE),
    ("memory.reserved", {"/etc/nova/nova.conf": "[DEFAULT]\nreserved_host_memory_mb = 8192\n"}, GOOD),
    ("memory.reserved", {"/etc/nova/nova.conf": "[DEFAULT]\nreserved_host_memory_mb = much\n"}, NOT_KNOWN),
    (
        "memory.reserved",  # the stronger file beside it, and the parts beyond both
        {
            "/etc/nova/nova.conf": "[DEFAULT]\nreserved_host_memory_mb = 8192\n",
            "/etc/nova/nova-compute.conf": "[DEFAULT]\nreserved_host_memory_mb = 256\n",
        },
        ADVICE,
    ),
    (
        "memory.reserved",
        {
            "/etc/nova/nova-compute.conf": "[DEFAULT]\nreserved_host_memory_mb = 256\n",
            "/etc/nova/nova.conf.d/50-memory.conf": "[DEFAULT]\nreserved_host_memory_mb = 8192\n",
        },
        GOOD,
    ),
    ("memory.ratios", {"/etc/nova/nova.conf": "[DEFAULT]\nram_allocation_ratio = 1.5\n"}, ADVICE),
    ("memory.ratios", {"/etc/nova/nova.conf": "[DEFAULT]\ninitial_cpu_allocation_ratio = 16\n"}, ADVICE),
    (
        "memory.ratios",
        {"/etc/nova/nova.conf": "[DEFAULT]\nram_allocation_ratio = 1.2\ncpu_allocation_ratio = 2.0\n"},
        GOOD,
    ),
    (
        "memory.ratios",  # as oslo.config reads it
        {"/etc/nova/nova.conf": "[DEFAULT]\nram_allocation_ratio: 1.2\ncpu_allocation_ratio = '2.0'\n"},
        GOOD,
    ),
    ("memory.ratios", {"/etc/nova/nova.conf": "[DEFAULT]\nram_allocation_ratio = 1.2\n"}, ADVICE),
    ("memory.ratios", {"/etc/nova/nova.conf": "[DEFAULT]\ncpu_allocation_ratio = 2.0\n"}, NOT_KNOWN),
    ("limits.neighbours-ipv4", {SYS + "net/ipv4/neigh/default/gc_thresh3": "1024"}, ADVICE),
    ("limits.neighbours-ipv4", {SYS + "net/ipv4/neigh/default/gc_thresh3": "64"}, PROBLEM),
    ("limits.neighbours-ipv6", {SYS + "net/ipv6/neigh/default/gc_thresh3": "64"}, PROBLEM),
    ("limits.conntrack", {SYS + "net/netfilter/nf_conntrack_max": "1000"}, ADVICE),
    (
        "limits.conntrack",
        {SYS + "net/netfilter/nf_conntrack_max": "900000", SYS + "net/netfilter/nf_conntrack_count": "800000"},
        PROBLEM,
    ),
    ("limits.conntrack", {SYS + "net/netfilter/nf_conntrack_max": "900000"}, GOOD),
    ("limits.inotify-instances", {SYS + "fs/inotify/max_user_instances": "128"}, ADVICE),
    ("limits.inotify-watches", {SYS + "fs/inotify/max_user_watches": "8192"}, ADVICE),
    ("limits.open-files", {SYS + "fs/file-max": "50000"}, ADVICE),
    ("limits.files-per-process", {SYS + "fs/nr_open": "1024"}, ADVICE),
    ("limits.processes", {SYS + "kernel/threads-max": "9000"}, ADVICE),
    ("limits.processes", {SYS + "kernel/pid_max": "700"}, PROBLEM),
    ("limits.processes", {SYS + "kernel/pid_max": "many"}, NOT_KNOWN),
    ("limits.memory-maps", {SYS + "vm/max_map_count": "65529"}, ADVICE),
    ("limits.cgroup-tasks", {"/sys/fs/cgroup/user.slice/pids.max": "700"}, PROBLEM),
    ("limits.cgroup-tasks", {"/sys/fs/cgroup/user.slice/pids.max": "max"}, GOOD),
    ("limits.cgroup-tasks", DAEMON | {"/sys/fs/cgroup/s/pids.max": "700"}, PROBLEM),
    ("limits.cgroup-tasks", DAEMON | {"/sys/fs/cgroup/s/pids.max": "800"}, GOOD),
    ("limits.cgroup-tasks", {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/pids.max": "700"}, PROBLEM),
    (
        "limits.cgroup-tasks",
        {"/proc/self/cgroup": "8:pids:/x\n0::/\n", "/sys/fs/cgroup/pids/x/pids.max": "700"},
        PROBLEM,
    ),
    ("limits.daemon", DAEMON, GOOD),
    ("limits.daemon", DAEMON | {"/proc/9/limits": LIMITS.format(tasks=9999, files=100)}, PROBLEM),
    ("limits.daemon", DAEMON | {"/proc/9/limits": LIMITS.format(tasks=9999, files=700)}, ADVICE),
    ("limits.daemon", DAEMON | {"/proc/9/limits": LIMITS.format(tasks=700, files=9999)}, PROBLEM),
    ("limits.daemon", DAEMON | {"/proc/9/limits": LIMITS.format(tasks="unlimited", files="unlimited")}, GOOD),
    ("limits.daemon", DAEMON | {"/proc/9/limits": "?"}, NOT_KNOWN),
    ("limits.daemon", {"/proc/self/limits": LIMITS.format(tasks=9999, files=700)}, ADVICE),
    ("network.bridge-filtering", {SYS + "net/bridge/bridge-nf-call-iptables": "0"}, GOOD),
    (
        "network.bridge-filtering",
        {
            SYS + "net/bridge/bridge-nf-call-iptables": "0",
            "/etc/neutron/plugins/ml2/a.ini": "[securitygroup]\nfirewall_driver = iptables_hybrid\n",
        },
        PROBLEM,
    ),
    (
        "network.bridge-filtering",
        {"/etc/neutron/plugins/ml2/a.ini": "[securitygroup]\nfirewall_driver = iptables_hybrid\n"},
        PROBLEM,
    ),
    ("libvirt.max-clients", LIBVIRT, GOOD),
    ("libvirt.max-clients", {"/etc/libvirt/virtqemud.conf": "max_clients = 20"}, PROBLEM),
    ("libvirt.max-clients", {"/etc/libvirt/libvirtd.conf": "max_clients = 100"}, ADVICE),
    ("libvirt.max-clients", {"/etc/libvirt/libvirtd.conf": "max_clients = all"}, NOT_KNOWN),
    ("libvirt.max-workers", LIBVIRT, ADVICE),
    ("libvirt.max-workers", {"/etc/libvirt/libvirtd.conf": "max_workers = 40"}, GOOD),
    ("libvirt.prio-workers", {"/etc/libvirt/libvirtd.conf": "prio_workers = 0"}, PROBLEM),
    ("libvirt.prio-workers", LIBVIRT, GOOD),
    ("libvirt.max-workers", {"/etc/libvirt/libvirtd.conf": "# see [1\nmax_workers = 2\n# and 2]\n"}, PROBLEM),
    ("libvirt.max-workers", {"/etc/libvirt/libvirtd.conf": "max_workers = 40  # for bursts\n"}, GOOD),
    ("libvirt.max-client-requests", LIBVIRT, ADVICE),
    ("libvirt.max-client-requests", {"/etc/libvirt/libvirtd.conf": "max_client_requests = 1"}, PROBLEM),
    ("libvirt.max-requests", {"/etc/libvirt/libvirtd.conf": "max_requests = 20"}, ADVICE),
    ("libvirt.max-requests", LIBVIRT, GOOD),
    ("qemu.security-driver", LIBVIRT, GOOD),
    ("qemu.security-driver", {"/etc/libvirt/qemu.conf": 'security_driver = "none"'}, ADVICE),
    ("qemu.security-driver", {"/etc/libvirt/qemu.conf": '#security_driver = "none"'}, GOOD),
    ("qemu.security-driver", {"/etc/libvirt/qemu.conf": 'security_driver = [\n  "none"\n]'}, ADVICE),
    ("qemu.cgroup-controllers", LIBVIRT, GOOD),
    ("qemu.cgroup-controllers", {"/etc/libvirt/qemu.conf": "cgroup_controllers = [ ]"}, ADVICE),
    ("qemu.cgroup-controllers", {"/etc/libvirt/qemu.conf": 'cgroup_controllers = [ "cpu" ]'}, GOOD),
    ("qemu.remember-owner", LIBVIRT, ADVICE),
    ("qemu.remember-owner", {"/etc/libvirt/qemu.conf": "remember_owner = 0"}, GOOD),
    ("qemu.max-processes", {"/etc/libvirt/qemu.conf": "max_processes = 4096"}, PROBLEM),
    ("qemu.max-processes", {"/etc/libvirt/qemu.conf": "max_processes = 0"}, GOOD),
    ("qemu.max-files", {"/etc/libvirt/qemu.conf": "max_files = 512"}, PROBLEM),
    ("qemu.max-files", {"/etc/libvirt/qemu.conf": "max_files = 32768"}, GOOD),
    ("dnsmasq.bound", SERVER, ADVICE),
    ("dnsmasq.bound", SERVER | SECOND, PROBLEM),
    ("dnsmasq.bound", SECOND, GOOD),
    ("dnsmasq.bound", SERVER | {"/etc/dnsmasq.conf": "bind-interfaces\ninterface=br1 # the bridge\n"}, GOOD),
    ("dnsmasq.bound", {**SERVER, "/proc/7/cmdline": "dnsmasq\0--port=53\0"}, GOOD),
    (
        "dnsmasq.lease-max",
        {
            **SERVER,
            "/etc/dnsmasq.conf": "conf-dir=/etc/dnsmasq.d,.rpmsave\n",
            "/etc/dnsmasq.d/a": "conf-file = /etc/b\nconf-file=/etc/dnsmasq.conf\n",
            "/etc/dnsmasq.d/c.rpmsave": "dhcp-lease-max=9999\n",
            "/etc/b": "dhcp-lease-max=99\n",
        },
        PROBLEM,
    ),
    ("dnsmasq.lease-script", {**SERVER, "/etc/dnsmasq.conf": "dhcp-script=/x\n"}, ADVICE),
    ("dnsmasq.lease-script", SERVER, GOOD),
    ("dnsmasq.lease-file", SERVER, GOOD),
    ("dnsmasq.lease-file", SECOND, ADVICE),
    ("dnsmasq.lease-max", SERVER, GOOD),
    ("dnsmasq.lease-max", {**SERVER, "/etc/dnsmasq.conf": "dhcp-lease-max=99\n"}, PROBLEM),
    ("messages.tcp-keepalive", {SYS + "net/ipv4/tcp_keepalive_time": "7200"}, ADVICE),
    (
        "messages.own-conntrack",
        {SYS + "net/netfilter/nf_conntrack_tcp_timeout_established": "60"},
        PROBLEM,
    ),
    ("messages.own-conntrack", {SYS + "net/netfilter/nf_conntrack_tcp_timeout_established": "432000"}, GOOD),
    (
        "messages.openstack-heartbeat",
        {"/etc/nova/nova.conf": "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 0\n"},
        PROBLEM,
    ),
    ("messages.openstack-heartbeat", {"/etc/nova/nova.conf": "[DEFAULT]\ntransport_url = rabbit://\n"}, GOOD),
    (
        "messages.openstack-heartbeat",
        {"/etc/cinder/cinder.conf": "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 9000\n"},
        PROBLEM,
    ),
    ("messages.rabbitmq", {"/etc/rabbitmq/rabbitmq.conf": "heartbeat = 0\n"}, PROBLEM),
    ("messages.rabbitmq", {"/etc/rabbitmq/rabbitmq.conf": "heartbeat = 60\n"}, ADVICE),
    ("messages.rabbitmq", {"/etc/rabbitmq/conf.d/10.conf": "tcp_listen_options.keepalive = true\n"}, GOOD),
    ("messages.muster-bus", {"/etc/muster/a.toml": '[engines]\nbus_url = "amqp://h/?heartbeat_s=9000"\n'}, PROBLEM),
    ("messages.muster-bus", {"/etc/muster/a.toml": '[engines]\nbus_url = "amqp://h/"\n'}, GOOD),
    (
        "openstack.rootwrap",
        {"/etc/neutron/neutron.conf": "[agent]\nroot_helper = sudo neutron-rootwrap /x\n"},
        ADVICE,
    ),
    (
        "openstack.rootwrap",
        {
            "/etc/neutron/neutron.conf": "[agent]\nroot_helper = sudo neutron-rootwrap /x\n",
            "/etc/neutron/plugins/ml2/o.ini": "[agent]\nroot_helper_daemon = sudo neutron-rootwrap-daemon /x\n",
        },
        GOOD,
    ),
    ("openstack.rootwrap", {"/etc/neutron/neutron.conf": "[agent]\nroot_helper = sudo\n"}, GOOD),
    (
        "openstack.rootwrap",
        {
            "/etc/neutron/neutron.conf": "[agent]\nroot_helper = sudo neutron-rootwrap /x\n",
            "/etc/neutron/agent.conf.d/daemon.conf": "[agent]\nroot_helper_daemon = sudo neutron-rootwrap-daemon /x\n",
        },
        GOOD,
    ),
    (
        "messages.openstack-heartbeat",
        {
            "/etc/nova/nova.conf": "[DEFAULT]\ntransport_url = rabbit://\n",
            "/etc/nova/nova-compute.conf": "[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 0\n",
        },
        PROBLEM,
    ),
]


@pytest.mark.parametrize(
    ("check", "files", "expected"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_check_judges_what_it_finds(tmp_path: Path, check: str, files: dict[str, str], expected: Level) -> None:
    assert level(check, facts_of(tmp_path, QUIET | files)) is expected


def test_a_quiet_host_has_nothing_wrong(tmp_path: Path) -> None:
    findings = diagnose(facts_of(tmp_path, QUIET), Plan(guests=100))
    assert {finding.level for finding in findings} == {GOOD}
    assert {finding.check for finding in findings} == {check.id for check in CHECKS}


def test_each_check_can_say_something_else_than_good(tmp_path: Path) -> None:
    other = {"versions.known-bad", "cpu.kvm-opens", "cpu.pressure", "clock.synchronised", "cpu.nested"}  # below
    other |= {check.id for check in CHECKS if check.id.startswith("boot.")} | {"settings.in-force"}
    assert {check.id for check in CHECKS} - other == {check for check, _, expected in CASES if expected is not GOOD}


def test_of_an_empty_tree_nothing_is_called_good_that_was_not_read(tmp_path: Path) -> None:
    """Nor absent: a copy without /sys said that the kernel had no KSM, one without /proc/sys that there was no IPv6."""
    by_others = {"cpu.muster-probe", "memory.reserved", "memory.ratios"}  # what programs left, or not
    kernels = [
        check.id for check in CHECKS if check.id.startswith(("cpu.", "clock.", "memory.", "limits.", "dnsmasq."))
    ]
    kernels += ["network.bridge-filtering", "messages.own-conntrack", "messages.tcp-keepalive", "versions.known-bad"]
    facts = facts_of(tmp_path, {})
    assert {check: level(check, facts) for check in kernels if check not in by_others} == {
        check: NOT_KNOWN for check in kernels if check not in by_others
    }


def test_a_kernel_that_is_there_and_says_nothing_of_pressure_has_none(tmp_path: Path) -> None:
    without = {path: text for path, text in QUIET.items() if not path.startswith("/proc/pressure")}
    assert level("cpu.pressure", facts_of(tmp_path, without)) is ADVICE


DHCP = ("dnsmasq.bound", "dnsmasq.lease-max", "dnsmasq.lease-script", "dnsmasq.lease-file")
BY_PROCESSES = ("limits.daemon", "limits.cgroup-tasks", "memory.group", "settings.in-force")


@pytest.mark.parametrize("check", [*DHCP, *BY_PROCESSES, "cpu.kvm-opens"])
def test_of_a_copy_without_processes_and_devices_none_is_taken_for_absent(tmp_path: Path, check: str) -> None:
    """They were good, and the machine had no /dev/kvm. A kernel that hides others' processes looks the same."""
    left_out = ("/proc/1/comm", "/dev/kvm")
    facts = facts_of(tmp_path, {path: text for path, text in QUIET.items() if path not in left_out})
    assert level(check, facts) is NOT_KNOWN
    (tmp_path / "dev").mkdir()
    assert level("cpu.kvm-opens", read_facts(tmp_path)) is PROBLEM


def test_what_cannot_be_read_is_not_known_and_says_why(tmp_path: Path) -> None:
    denied = Reading(None, "permission denied; needs root")
    paths = ("/etc/libvirt/libvirtd.conf", "/etc/libvirt/qemu.conf", "/etc/nova", "/etc/neutron/neutron.conf")
    facts = facts_of(tmp_path, QUIET)
    unread = Facts(files=facts.files | dict.fromkeys(paths, denied), kvm=denied.why, is_root=False)
    for check in ("libvirt.max-clients", "qemu.max-files", "memory.ratios", "openstack.rootwrap", "cpu.kvm-opens"):
        (result,) = results(check, unread)
        assert result.level is NOT_KNOWN
        assert "permission denied" in result.found
        assert "sudo" in result.mend


@pytest.mark.parametrize(
    ("check", "unread", "readable"),
    [
        ("memory.reserved", "/etc/nova/nova.conf", {"/etc/nova/rootwrap.conf": "[DEFAULT]\n"}),
        ("memory.ratios", "/etc/nova/nova.conf", {"/etc/nova/rootwrap.conf": "[DEFAULT]\n"}),
        ("network.bridge-filtering", "/etc/neutron/plugins/ml2/a.ini", {"/etc/neutron/rootwrap.conf": "[DEFAULT]\n"}),
        ("messages.rabbitmq", "/etc/rabbitmq/rabbitmq.conf", {"/etc/rabbitmq/conf.d/a.conf": "heartbeat = 60\n"}),
    ],
)
def test_a_default_is_not_read_from_the_files_that_could_be_read(
    tmp_path: Path, check: str, unread: str, readable: dict[str, str]
) -> None:
    """nova.conf is for root and nova only, what stands beside it for everybody."""
    facts = facts_of(tmp_path, QUIET | readable)
    denied = Facts(files=facts.files | {unread: Reading(None, "permission denied; needs root")}, is_root=False)
    assert {result.level for result in results(check, denied)} == {NOT_KNOWN}


def test_thresholds_that_are_higher_already_are_not_lowered(tmp_path: Path) -> None:
    of = SYS + "net/ipv4/neigh/default/gc_thresh"
    now = {of + "1": "2000", of + "2": "3000", of + "3": "4000"}
    (result,) = results("limits.neighbours-ipv4", facts_of(tmp_path, QUIET | now))
    assert [result.sysctls[f"net.ipv4.neigh.default.gc_thresh{n}"] for n in (1, 2, 3)] == [2000, 3000, 4096]


def test_no_more_is_asked_for_than_the_kernel_takes(tmp_path: Path) -> None:
    """--fix wrote a value into /etc/sysctl.d that no boot could set."""
    facts = facts_of(tmp_path, QUIET | {SYS + "kernel/pid_max": "32768", SYS + "kernel/threads-max": "99999999"})
    pids, threads = results("limits.processes", facts, guests=90_000)
    assert (pids.level, pids.sysctls, threads.level) == (PROBLEM, {"kernel.pid_max": 4_194_304}, GOOD)


def test_a_unit_that_is_masked_is_not_there(tmp_path: Path) -> None:
    root = written(tmp_path, QUIET | {"/lib/systemd/system/libvirtd.service": "[Unit]\n"})
    written(root, {"/lib/systemd/system/openvswitch.service": "[Unit]\n"})
    assert level("boot.hypervisor-after-switch", read_facts(root)) is PROBLEM
    (root / "etc" / "systemd" / "system").mkdir(parents=True)
    (root / "etc" / "systemd" / "system" / "libvirtd.service").symlink_to("/dev/null")
    assert level("boot.hypervisor-after-switch", read_facts(root)) is GOOD
    (root / "etc" / "systemd" / "system" / "libvirtd.service").unlink()
    (root / "etc" / "systemd" / "system" / "libvirtd.service").touch()
    assert level("boot.hypervisor-after-switch", read_facts(root)) is GOOD


def test_folders_and_odd_files_are_kept_with_the_reason(tmp_path: Path) -> None:
    root = written(tmp_path, QUIET)
    (root / "etc" / "nova" / "nova.conf").mkdir(parents=True)
    os.mkfifo(root / "etc" / "nova" / "fifo.conf")
    facts = read_facts(root)
    assert facts.unread("/etc/nova") == ["/etc/nova/fifo.conf: not a file", "/etc/nova/nova.conf: not a file"]
    assert level("memory.ratios", facts) is NOT_KNOWN


def test_absolute_links_stay_below_the_root(tmp_path: Path) -> None:
    root = written(tmp_path, QUIET | {"/opt/nova.conf": "[DEFAULT]\nram_allocation_ratio = 9\n"})
    (root / "etc" / "nova").mkdir(parents=True)
    (root / "etc" / "nova" / "nova.conf").symlink_to("/opt/nova.conf")
    assert level("memory.ratios", read_facts(root)) is ADVICE


def test_kvm_that_does_not_open_is_a_problem_for_root(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, QUIET)
    assert level("cpu.kvm-opens", Facts(files=facts.files, kvm="No such device")) is PROBLEM


def test_a_clock_that_is_not_synchronised(tmp_path: Path) -> None:
    root = written(tmp_path, QUIET)
    assert level("clock.synchronised", read_facts(root, clock=lambda: False)) is PROBLEM
    assert level("clock.synchronised", read_facts(root, clock=lambda: True)) is GOOD
    assert level("clock.synchronised", read_facts(root, clock=lambda: None)) is NOT_KNOWN


def test_servers_in_namespaces_of_their_own_do_not_hear_each_other(tmp_path: Path) -> None:
    root = written(tmp_path, QUIET | SERVER | SECOND)
    for pid, space in ((7, "net:[1]"), (8, "net:[2]")):
        (root / "proc" / str(pid) / "ns").mkdir()
        (root / "proc" / str(pid) / "ns" / "net").symlink_to(space)
    assert level("dnsmasq.bound", read_facts(root)) is ADVICE
    (root / "proc" / "8" / "ns" / "net").unlink()
    (root / "proc" / "8" / "ns" / "net").symlink_to("net:[1]")
    assert level("dnsmasq.bound", read_facts(root)) is PROBLEM


def test_the_dhcp_servers_of_muster_are_good(tmp_path: Path) -> None:
    golden = Path(__file__).parents[2] / "golden" / "network" / "dnsmasq.conf"
    server = {"/proc/7/comm": "dnsmasq", "/proc/7/cmdline": "dnsmasq\0--conf-file=/d.conf\0"}
    facts = facts_of(tmp_path, QUIET | server | {"/d.conf": golden.read_text(encoding="utf-8")})
    for check in CHECKS:
        if check.id.startswith("dnsmasq."):
            (result,) = results(check.id, facts)
            assert (result.level, result.found[:1] in "1N") == (GOOD, True), result


def test_the_cgroups_above_count_too(tmp_path: Path) -> None:
    cgroup = {"/proc/self/cgroup": "0::/a/b", "/sys/fs/cgroup/a/b/pids.max": "max", "/sys/fs/cgroup/a/pids.max": "700"}
    (result,) = results("limits.cgroup-tasks", facts_of(tmp_path, QUIET | cgroup))
    assert result.level is PROBLEM
    assert "/sys/fs/cgroup/a/pids.max" in result.found


def test_nested_says_what_is_set(tmp_path: Path) -> None:
    (result,) = results("cpu.nested", facts_of(tmp_path, QUIET | {"/sys/module/kvm_intel/parameters/nested": "N"}))
    assert result.found == "kvm_intel: guests cannot have guests"


def test_the_idle_timeout_decides(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, QUIET | {SYS + "net/ipv4/tcp_keepalive_time": "600"})
    assert level("messages.tcp-keepalive", facts) is GOOD
    (result,) = results("messages.tcp-keepalive", facts, idle_timeout_s=120)
    assert result.level is PROBLEM
    assert result.sysctls["net.ipv4.tcp_keepalive_time"] == 40


def test_no_secret_is_shown(tmp_path: Path) -> None:
    for name, tree in {"compute": COMPUTE, "muster": MUSTER_HOST}.items():
        findings = diagnose(facts_of(tmp_path / name, tree), Plan(guests=100))
        assert not [finding for finding in findings if "SECRET" in str(finding)]


def test_a_password_in_broken_toml_is_not_shown_either(tmp_path: Path) -> None:
    text = '[engines\nbus_url = "amqp://m:SECRET@h/?heartbeat_s=x"\n'
    (result,) = results("messages.muster-bus", facts_of(tmp_path, QUIET | {"/etc/muster/a.toml": text}))
    assert result.level is NOT_KNOWN
    assert "SECRET" not in result.found


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ({"libvirtd.service": "", "openvswitch-switch.service": ""}, PROBLEM),
        ({"libvirtd.service": "After=openvswitch-switch.service", "openvswitch-switch.service": ""}, GOOD),
        ({"libvirtd.service": "After=a.target", "openvswitch.service": "Before=a.target"}, GOOD),
        ({"libvirtd.service": "After=a.target\nAfter=", "openvswitch.service": "Before=a.target"}, GOOD),
        ({"libvirtd.service": "After=b.target \\\n  a.target", "openvswitch.service": "Before=a.target"}, GOOD),
        ({"libvirtd.service": "After=libvirtd.service b.service", "ovs-vswitchd.service": ""}, PROBLEM),
        ({"libvirtd.service": ""}, GOOD),
    ],
)
def test_order_of_hypervisor_and_switch(units: dict[str, str], expected: Level) -> None:
    assert level("boot.hypervisor-after-switch", Facts(files={}, units=units)) is expected


@pytest.mark.parametrize(
    ("check", "later", "sooner", "bad"),
    [
        ("boot.compute-after-hypervisor", "nova-compute.service", "virtqemud.service", PROBLEM),
        ("boot.compute-after-switch", "openstack-nova-compute.service", "openvswitch.service", ADVICE),
        ("boot.agent-after-switch", "neutron-openvswitch-agent.service", "openvswitch.service", PROBLEM),
    ],
)
def test_order_of_openstack(check: str, later: str, sooner: str, bad: Level) -> None:
    assert level(check, Facts(files={}, units={later: "", sooner: ""})) is bad
    assert level(check, Facts(files={}, units={later: f"After={sooner}", sooner: ""})) is GOOD


def test_the_unit_of_muster_host_in_this_repository_is_good() -> None:
    unit = (Path(__file__).parents[3] / "deploy" / "systemd" / "muster-host.service").read_text(encoding="utf-8")
    assert level("boot.muster-host", Facts(files={}, units={"muster-host.service": unit})) is GOOD
    again = f"{unit}\n[Service]\nKillMode=process\n"  # as a drop-in does
    assert level("boot.muster-host", Facts(files={}, units={"muster-host.service": again})) is GOOD
    without = unit.replace("KillMode=process", "")
    assert level("boot.muster-host", Facts(files={}, units={"muster-host.service": without})) is PROBLEM
    without = unit.replace("Wants=network-online.target", "")
    assert level("boot.muster-host", Facts(files={}, units={"muster-host.service": without})) is ADVICE


def test_guests_are_planned_by_memory(tmp_path: Path) -> None:
    assert planned_guests(facts_of(tmp_path, QUIET)) == 150
    assert planned_guests(Facts(files={})) == 1


def test_every_check_is_documented() -> None:
    text = (Path(__file__).parents[3] / "docs" / "doctor.md").read_text(encoding="utf-8")
    for check in CHECKS:
        assert f"| `{check.id}` | {check.what} | {check.cost} | {check.source} |" in text


def test_where_an_agent_is_told_to_leave_ksm_alone_its_setting_is_named_and_no_file(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, KSM_OFF | AGENT | {"/proc/6/cmdline": "muster\0up\0--libvirt\0--ksm\0off\0"})
    (result,) = results("memory.ksm", facts)
    assert "--ksm auto" in result.mend
    assert "echo" not in result.mend


def test_people_are_told_once_why_several_checks_could_not_be_made(tmp_path: Path) -> None:
    """An ordinary user got five rows for each file that could not be read."""
    facts = facts_of(tmp_path, QUIET | LIBVIRT)
    denied = dict.fromkeys(LIBVIRT, Reading(None, "permission denied; needs root"))
    findings = diagnose(replace(facts, files=facts.files | denied), Plan(guests=100))
    console = Console(file=io.StringIO(), width=400)
    console.print(drawn(findings, Plan(guests=100), is_whole=False))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("libvirtd.conf: permission denied") == text.count("qemu.conf: permission denied") == 1
    assert all(finding.check in text for finding in findings if finding.level is NOT_KNOWN)


@pytest.mark.parametrize("text", ["a" + "#" * 1_000_000 + '"', "[" * 1_000_000], ids=["comments", "lists"])
def test_an_odd_file_holds_nobody_up(text: str) -> None:
    """Each of its signs was looked at from each of them: hours."""
    assert libvirt_settings(text) == {}


@pytest.mark.parametrize(
    ("line", "value"),
    [("a = 5 # x", "5"), ('a = "b # c"', "b # c"), ('a = "b" # c', "b"), ("a = ['x', # y\n'z']", "['x',  'z']")],
)
def test_comments_are_behind_quotes(line: str, value: str) -> None:
    assert libvirt_settings(line) == {"a": value}

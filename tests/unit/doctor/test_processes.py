"""What runs on a host in use: in containers and namespaces, by Python, with helpers, and while guests come and go."""

import os
from pathlib import Path

import pytest
from tests.unit.doctor.trees import QUIET, facts_of, level, results, written

from muster.doctor.diagnosis import planned_guests
from muster.doctor.facts import Facts, Reading
from muster.doctor.findings import Level
from muster.doctor.processes import program_of
from muster.doctor.reader import read_facts
from muster.doctor.texts import interfaces, kernel_counters, root_mount

GOOD, ADVICE, PROBLEM, NOT_KNOWN = Level.GOOD, Level.ADVICE, Level.PROBLEM, Level.NOT_KNOWN
OWN_MOUNTS = {"/proc/self/mountinfo": "21 1 8:1 / / rw - ext4 /dev/sda rw\n22 21 0:5 / /proc rw - proc proc rw\n"}
AGENT = {
    "/sys/kernel/mm/ksm/run": "0",
    "/proc/6/comm": "python3.11",
    "/proc/6/cmdline": "/usr/bin/python3.11\0-m\0muster\0host\0--settings\0/lab/muster.toml\0--libvirt\0",
}


def contained(pid: int, comm: str, cmdline: str, files: dict[str, str]) -> dict[str, str]:
    """A process in a container with such files."""
    return {
        **OWN_MOUNTS,
        f"/proc/{pid}/comm": comm,
        f"/proc/{pid}/cmdline": cmdline,
        f"/proc/{pid}/limits": "Max processes  9999 9999 processes\nMax open files  9999 9999 files\n",
        f"/proc/{pid}/mountinfo": "77 70 0:40 / / rw - overlay overlay rw\n",
        **{f"/proc/{pid}/root{path}": text for path, text in files.items()},
    }


DPKG = "Package: {}\nStatus: install ok installed\nVersion: {}\n\n"


def test_an_agent_that_python_was_told_to_run_is_one(tmp_path: Path) -> None:
    """In a lab the agent is `python -m muster`: KSM was to be switched on by hand where the agent does it."""
    assert level("memory.ksm", facts_of(tmp_path, QUIET | AGENT)) is GOOD


def test_an_agent_is_asked_by_the_settings_that_it_was_started_with(tmp_path: Path) -> None:
    settings = {"/lab/muster.toml": "[host]\nksm = 'off'\n[engines]\nbus_url = 'amqp://m:SECRET@h/?heartbeat_s=9999'\n"}
    facts = facts_of(tmp_path, QUIET | AGENT | settings)
    assert level("memory.ksm", facts) is ADVICE
    (bus,) = results("messages.muster-bus", facts)
    assert bus.level is PROBLEM
    assert "SECRET" not in str(bus)


def test_a_daemon_with_files_of_its_own_is_judged_by_them(tmp_path: Path) -> None:
    """A libvirtd that was given its file was 'no libvirt of its own to set up'."""
    daemon = {
        "/proc/9/comm": "libvirtd",
        "/proc/9/cmdline": "libvirtd\0--config\0/x/libvirtd.conf\0",
        "/x/libvirtd.conf": "max_clients = 20\n",
    }
    facts = facts_of(tmp_path / "a", QUIET | daemon)
    (result,) = results("libvirt.max-clients", facts)
    assert (result.level, "/x/libvirtd.conf" in result.found) == (PROBLEM, True)
    private = {"/x/libvirtd.conf": 'max_clients = 20\nunix_sock_dir = "/x/run"\n'}
    assert level("libvirt.max-clients", facts_of(tmp_path / "b", QUIET | daemon | private)) is GOOD


def test_a_daemon_without_files_has_the_defaults(tmp_path: Path) -> None:
    daemon = {"/proc/9/comm": "virtqemud", "/proc/9/cmdline": "virtqemud\0--timeout\0120\0"}
    (result,) = results("libvirt.max-client-requests", facts_of(tmp_path, QUIET | daemon))
    assert (result.level, "5 (the default)" in result.found) == (ADVICE, True)


def test_a_daemon_in_a_container_is_judged_by_what_is_in_there(tmp_path: Path) -> None:
    inside = {
        "/etc/libvirt/libvirtd.conf": "max_clients = 20\n",
        "/etc/libvirt/qemu.conf": "max_files = 5\n",
        "/var/lib/dpkg/status": DPKG.format("libvirt-daemon", "8.0.0-1") + DPKG.format("qemu-system-x86", "6.2"),
    }
    host = {
        "/etc/libvirt/libvirtd.conf": "max_clients = 9000\n",
        "/var/lib/dpkg/status": DPKG.format("libvirt-daemon", "11.0.0-1") + DPKG.format("dnsmasq-base", "2.90"),
    }
    facts = facts_of(tmp_path, QUIET | host | contained(9, "libvirtd", "/usr/sbin/libvirtd\0--listen\0", inside))
    assert level("libvirt.max-clients", facts) is PROBLEM
    assert level("qemu.max-files", facts) is PROBLEM
    assert facts.versions == {"libvirt": (8, 0, 0), "qemu": (6, 2), "dnsmasq": (2, 90), "kernel": (6, 12, 90)}


def test_of_two_versions_that_run_both_are_judged(tmp_path: Path) -> None:
    """A second daemon's files, as a lab's beside a container, hid what was in the first one's."""
    old = {"/var/lib/dpkg/status": DPKG.format("libvirt-daemon", "8.0.0-1")}
    new = {"/var/lib/dpkg/status": DPKG.format("libvirt-daemon", "10.8.0-1")}
    daemons = contained(8, "libvirtd", "libvirtd\0", old) | contained(9, "libvirtd", "libvirtd\0-l\0", new)
    daemons |= contained(10, "libvirtd", "libvirtd\0-x\0", new)
    facts = facts_of(tmp_path, QUIET | daemons)
    assert (facts.versions["libvirt"], facts.other_versions) == ((8, 0, 0), ({"libvirt": (10, 8, 0)},))
    said = [result.found for result in results("versions.known-bad", facts)]
    assert any("libvirt-namespace-deadlock: libvirt 8.0.0" in found for found in said)
    assert len(said) == len(set(said))


def test_where_to_mend_what_is_in_a_container(tmp_path: Path) -> None:
    inside = {"/etc/libvirt/libvirtd.conf": "max_clients = 20\n"}
    (clients,) = results(
        "libvirt.max-clients", facts_of(tmp_path, QUIET | contained(9, "libvirtd", "libvirtd\0", inside))
    )
    assert (
        clients.mend
        == "max_clients = 200 in /etc/libvirt/libvirtd.conf as process 9 sees it, then: restart its container"
    )


def test_what_is_in_a_container_is_not_known_to_who_may_not_look_into_it(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, QUIET | contained(9, "libvirtd", "/usr/sbin/libvirtd\0", {}))
    denied = Reading(None, "permission denied; needs root")
    paths = ("/proc/9/root/etc/libvirt/libvirtd.conf", "/proc/9/root/etc/libvirt/qemu.conf")
    unread = Facts(files=facts.files | dict.fromkeys(paths, denied), processes=facts.processes, is_root=False)
    for check in ("libvirt.max-clients", "qemu.security-driver", "qemu.max-files"):
        (result,) = results(check, unread)
        assert (result.level, "denied" in result.found) == (NOT_KNOWN, True)


def test_a_dhcp_server_in_a_container_has_its_files_there(tmp_path: Path) -> None:
    inside = {"/run/d": "dhcp-range=10.0.0.0,static\nconf-file=/run/e\n", "/run/e": "dhcp-lease-max=5\n"}
    facts = facts_of(tmp_path, QUIET | contained(7, "dnsmasq", "dnsmasq\0--conf-file=/run/d\0", inside))
    assert level("dnsmasq.lease-max", facts) is PROBLEM


def test_services_in_containers_are_read_where_kolla_has_no_folders(tmp_path: Path) -> None:
    inside = {"/etc/nova/nova.conf": "[DEFAULT]\ncpu_allocation_ratio = 16.0\nram_allocation_ratio = 1.0\n"}
    facts = facts_of(tmp_path, QUIET | contained(5, "nova-compute", "python3\0/usr/bin/nova-compute\0", inside))
    assert [result.level for result in results("memory.ratios", facts)] == [GOOD, ADVICE]


def test_the_helper_of_a_server_with_a_script_is_no_second_server(tmp_path: Path) -> None:
    """dnsmasq has a child that runs its script: one server was two of one namespace."""
    line = "dnsmasq\0--dhcp-range=10.0.0.0,10.0.0.9\0--dhcp-script=/bin/x\0"
    pair = {"/proc/7/comm": "dnsmasq", "/proc/7/cmdline": line, "/proc/8/comm": "dnsmasq", "/proc/8/cmdline": line}
    (result,) = results("dnsmasq.bound", facts_of(tmp_path, QUIET | pair | {"/proc/8/status": "Name: x\nPPid:\t7\n"}))
    assert (result.level, "1 DHCP servers" in result.found) == (ADVICE, True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--bind-dynamic\0--interface=a\0", GOOD),
        ("--bind-interfaces\0--interface\0a\0--except-interface=lo\0", GOOD),
        ("--bind-interfaces\0-i\0a\0-i\0lo\0", GOOD),
        ("--bind-dynamic\0--interface=a,b\0--no-dhcp-interface=b\0", GOOD),
        ("--bind-dynamic\0--interface=a\0--interface=b\0", ADVICE),
        ("--bind-dynamic\0--interface=tap*\0", ADVICE),
        ("--interface=a\0", ADVICE),
    ],
)
def test_a_server_is_bound_to_a_device_where_it_has_exactly_one(tmp_path: Path, options: str, expected: Level) -> None:
    server = {"/proc/7/comm": "dnsmasq", "/proc/7/cmdline": f"dnsmasq\0--dhcp-range=10.0.0.0,static\0{options}"}
    assert level("dnsmasq.bound", facts_of(tmp_path, QUIET | server)) is expected


@pytest.mark.parametrize(
    ("ranges", "most", "expected"),
    [
        ("--dhcp-range=set:a,10.0.0.0,static,255.255.255.0,86400s\0", 256, GOOD),
        ("--dhcp-range\0set:a,10.0.0.0,static,255.255.255.0\0", 256, GOOD),
        ("--dhcp-range=10.0.0.10,10.0.0.19,1h\0", 10, GOOD),
        ("--dhcp-range=10.0.0.0,static,255.255.255.0\0--dhcp-range=2001:db8::,static,64\0", 256, GOOD),
        ("--dhcp-range=10.0.0.0,static,255.255.255.0\0--dhcp-range=10.0.1.0,static,255.255.255.0\0", 256, PROBLEM),
        ("--dhcp-range=10.0.0.0,static,255.255.0.0\0", 256, PROBLEM),
        ("--dhcp-range=10.0.0.0,static\0", 256, PROBLEM),
    ],
)
def test_no_more_leases_are_asked_for_than_a_network_has_addresses(
    tmp_path: Path, ranges: str, most: int, expected: Level
) -> None:
    """Neutron limits a server to its network's size: that was a problem of every small network."""
    server = {"/proc/7/comm": "dnsmasq", "/proc/7/cmdline": f"dnsmasq\0{ranges}--dhcp-lease-max={most}\0"}
    assert level("dnsmasq.lease-max", facts_of(tmp_path, QUIET | server), guests=1000) is expected


def test_who_may_not_see_namespaces_tells_them_apart_by_their_interfaces(tmp_path: Path) -> None:
    servers: dict[str, str] = {}
    for pid in (7, 8):
        servers[f"/proc/{pid}/comm"] = "dnsmasq"
        servers[f"/proc/{pid}/cmdline"] = f"dnsmasq\0--dhcp-range=10.{pid}.0.0,static\0"
        servers[f"/proc/{pid}/net/dev"] = f"Inter-| Receive\n face |bytes\n    lo: 0\n  tap{pid}: 0\n"
    assert level("dnsmasq.bound", facts_of(tmp_path, QUIET | servers)) is ADVICE
    servers["/proc/8/net/dev"] = servers["/proc/7/net/dev"]
    assert level("dnsmasq.bound", facts_of(tmp_path, QUIET | servers)) is PROBLEM


def test_what_ends_while_it_is_looked_at_is_not_there(tmp_path: Path) -> None:
    gone = {"/proc/9/comm": "libvirtd", "/proc/9/cmdline": "", "/proc/8/comm": "dnsmasq"}
    assert facts_of(tmp_path, QUIET | gone).processes == ()


@pytest.mark.parametrize(
    ("comm", "argv", "program"),
    [
        ("qemu-system-x86", ("qemu", "-name", "guest=a", "-machine", "pc-i440fx-7.2,accel=tcg"), "qemu"),
        ("qemu-kvm", ("/usr/libexec/qemu-kvm", "-name", "guest=a"), "qemu"),
        ("qemu-system-x86", ("qemu", "-S", "-machine", "none,accel=kvm:tcg"), None),
        ("neutron-openvsw", ("python3", "/usr/bin/neutron-openvswitch-agent"), "neutron"),
        ("python3", ("python3", "-m", "muster", "up"), "muster"),
        ("python3", ("python3", "-m", "http.server"), None),
        ("muster", ("python3", "/usr/bin/muster", "up"), "muster"),
        ("dnsmasq", ("",), None),
        ("bash", ("bash",), None),
    ],
)
def test_which_programs_matter(comm: str, argv: tuple[str, ...], program: str | None) -> None:
    assert program_of(comm, argv) == program


def test_settings_that_were_written_since_are_not_those_of_the_service(tmp_path: Path) -> None:
    daemon = {
        "/proc/9/comm": "libvirtd",
        "/proc/9/cmdline": "libvirtd\0",
        "/proc/9/stat": f"9 (a) b) S {' '.join(['1'] * 18)} 500 7\n",
        "/proc/5/comm": "nova-compute",
        "/proc/5/cmdline": "python3\0/usr/bin/nova-compute\0",
        "/proc/5/stat": f"5 (nova-compute) S {' '.join(['1'] * 18)} 500 7\n",
        "/proc/stat": "cpu 1 2\nbtime 1000000\n",
        "/etc/libvirt/libvirtd.conf": "",
        "/etc/libvirt/qemu.conf": "",
        "/etc/nova/nova.conf": "",
    }
    facts = facts_of(tmp_path, QUIET | daemon)
    assert [process.started_s for process in facts.processes] == [1_000_005.0, 1_000_005.0]
    nova, libvirt = results("settings.in-force", facts)
    assert (nova.level, "nova-compute 5" in nova.found, "/etc/nova/nova.conf" in nova.found) == (ADVICE, True, True)
    assert "/etc/libvirt/libvirtd.conf, /etc/libvirt/qemu.conf was written" in libvirt.found
    for path in ("etc/libvirt/libvirtd.conf", "etc/libvirt/qemu.conf", "etc/nova/nova.conf"):
        os.utime(tmp_path / path, (1_000_000, 1_000_000))
    assert level("settings.in-force", read_facts(tmp_path)) is GOOD


@pytest.mark.parametrize(
    ("arguments", "late"),
    [
        (
            "--config-file=/etc/neutron/neutron.conf\0--config-file\0/etc/neutron/plugins/ml2/ovs.ini\0",
            "neutron.conf ovs.ini",
        ),
        ("--config-dir\0/etc/neutron/neutron.conf.d\0--config-file=/etc/neutron/neutron.conf\0", "neutron.conf a.conf"),
        ("", "neutron.conf ovs.ini a.conf"),
    ],
)
def test_files_of_other_services_beside_it_are_none_of_a_services(tmp_path: Path, arguments: str, late: str) -> None:
    agent = {
        "/proc/5/comm": "neutron-openvsw",
        "/proc/5/cmdline": f"python3\0/usr/bin/neutron-openvswitch-agent\0{arguments}",
        "/proc/5/stat": f"5 (neutron-openvsw) S {' '.join(['1'] * 18)} 500 7\n",
        "/proc/stat": "btime 1000000\n",
        "/etc/neutron/neutron.conf": "",
        "/etc/neutron/dhcp_agent.ini": "",
        "/etc/neutron/plugins/ml2/ovs.ini": "",
        "/etc/neutron/neutron.conf.d/a.conf": "",
    }
    (result,) = results("settings.in-force", facts_of(tmp_path, QUIET | agent))
    names = [word.rpartition("/")[2].rstrip(",") for word in result.found.split() if word.startswith("/etc/")]
    assert sorted(names) == sorted(late.split())
    assert result.found.startswith("neutron-openvswitch-agent 5 runs")


def test_services_in_containers_read_their_own_files(tmp_path: Path) -> None:
    inside = contained(5, "nova-compute", "python3\0nova-compute\0", {"/etc/nova/nova.conf": ""})
    inside |= {"/proc/5/stat": f"5 (nova-compute) S {' '.join(['1'] * 18)} 500 7\n", "/proc/stat": "btime 1000000\n"}
    (result,) = results("settings.in-force", facts_of(tmp_path, QUIET | {"/etc/nova/nova.conf": ""} | inside))
    assert result.found == "nova-compute 5 runs since before /etc/nova/nova.conf as process 5 sees it was written"


def test_settings_that_a_container_copies_as_it_starts_are_those_that_it_reads(tmp_path: Path) -> None:
    """Kolla's start copies them and then becomes the service: the same process, which began before."""
    inside = contained(5, "nova-compute", "python3\0nova-compute\0", {"/etc/nova/nova.conf": ""})
    inside |= {"/proc/5/stat": f"5 (nova-compute) S {' '.join(['1'] * 18)} 500 7\n", "/proc/stat": "btime 1000000\n"}
    root = written(tmp_path, QUIET | inside)
    os.utime(root / "proc/5/root/etc/nova/nova.conf", (1_000_025, 1_000_025))
    assert level("settings.in-force", read_facts(root)) is GOOD


def guest(pid: int, cgroup: str) -> dict[str, str]:
    return {
        f"/proc/{pid}/comm": "qemu-system-x86",
        f"/proc/{pid}/cmdline": "qemu\0-machine\0pc\0",
        f"/proc/{pid}/cgroup": cgroup,
    }


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("unconfined\n", ADVICE),
        ("libvirt-6f0e (enforce)\n", GOOD),
        ("system_u:system_r:svirt_t:s0:c1,c2\0", GOOD),
        ("system_u:system_r:spc_t:s0\0", ADVICE),
        ("", GOOD),
    ],
)
def test_guests_that_run_unconfined_are_said_to_be(tmp_path: Path, label: str, expected: Level) -> None:
    """libvirt in a container does without the host's AppArmor, which was said to confine guests."""
    daemon = contained(9, "libvirtd", "libvirtd\0", {"/etc/libvirt/libvirtd.conf": "", "/etc/libvirt/qemu.conf": ""})
    tree = QUIET | daemon | guest(1001, "0::/m") | {"/proc/1001/attr/current": label}
    assert level("qemu.security-driver", facts_of(tmp_path, tree)) is expected


def test_more_guests_are_planned_than_run_already(tmp_path: Path) -> None:
    guests = guest(1001, "0::/m") | guest(1002, "0::/m")
    small = {"/proc/meminfo": "MemTotal: 600000 kB\n"}
    assert planned_guests(facts_of(tmp_path, QUIET | small | guests)) == 2


def test_a_limit_of_all_guests_counts_and_not_that_of_one(tmp_path: Path) -> None:
    own = "0::/machine.slice/machine-qemu\\x2d1\\x2da.scope/libvirt/emulator"
    tree = guest(1001, own) | {"/sys/fs/cgroup/machine.slice/machine-qemu\\x2d1\\x2da.scope/pids.max": "64\n"}
    assert level("limits.cgroup-tasks", facts_of(tmp_path / "a", QUIET | tree)) is GOOD
    tree |= {"/sys/fs/cgroup/machine.slice/pids.max": "64\n"}
    (result,) = results("limits.cgroup-tasks", facts_of(tmp_path / "b", QUIET | tree))
    assert (result.level, "/machine.slice/pids.max" in result.found) == (PROBLEM, True)


@pytest.mark.parametrize(("said", "expected"), [("64", PROBLEM), ("64:700", ADVICE), ("1024:524288", GOOD)])
def test_a_daemon_that_waits_to_be_called_has_the_limits_of_its_unit(
    tmp_path: Path, said: str, expected: Level
) -> None:
    """libvirt's own unit says 1024:524288, and its daemons take what they may."""
    unit = {
        "/lib/systemd/system/libvirtd.service": f"[Service]\nLimitNOFILE={said}\n",
        "/etc/systemd/system/sockets.target.wants/libvirtd.socket": "",
    }
    (result,) = results("limits.daemon", facts_of(tmp_path, QUIET | unit))
    assert (result.level, f"LimitNOFILE={said}" in result.found) == (expected, True)


def test_a_version_that_could_not_be_found_of_what_runs_is_not_known(tmp_path: Path) -> None:
    """It was 'no known fault', of the kernel alone."""
    (result,) = results("versions.known-bad", facts_of(tmp_path, QUIET | guest(1001, "0::/m")))
    assert (result.level, "qemu" in result.found) == (NOT_KNOWN, True)


def test_a_process_is_in_a_container_by_the_mount_that_is_its_root() -> None:
    assert (
        root_mount("9 1 8:1 / / rw - ext4 a rw\n12 9 8:2 / / rw - ext4 b rw\n13 9 0:3 / /x rw - tmpfs c rw\n") == "12"
    )
    assert root_mount("") == root_mount("1 2\n") == ""


def test_the_kernels_tables() -> None:
    text = "entries  table_fulls\n0000000c 00000001\n0000000c 0000000f\nxyz\n"
    assert kernel_counters(text) == {"entries": [12, 12, 0], "table_fulls": [1, 15]}
    assert kernel_counters("") == {}
    assert interfaces("Inter-|\n face |\n eth0: 1 2\n  lo: 3\n") == "eth0 lo"

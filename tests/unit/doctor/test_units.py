"""Which units are started at boot, by links alone, and what follows for their order."""

from pathlib import Path

from tests.unit.doctor.trees import QUIET, facts_of, level, results

from muster.doctor.boot_order import unit_of
from muster.doctor.findings import Level
from muster.doctor.units import started

GOOD, PROBLEM, NOT_KNOWN = Level.GOOD, Level.PROBLEM, Level.NOT_KNOWN
UNITS = "/usr/lib/systemd/system"
WANTS = "/etc/systemd/system/multi-user.target.wants"
BOTH = {f"{UNITS}/libvirtd.service": "[Unit]\n", f"{UNITS}/openvswitch.service": "[Unit]\n"}
RUNNING = {
    "/proc/9/comm": "libvirtd",
    "/proc/9/cmdline": "libvirtd\0",
    "/proc/9/cgroup": "0::/system.slice/libvirtd.service\n",
}


def test_the_order_of_what_is_not_started_does_not_matter(tmp_path: Path) -> None:
    enabled = {f"{WANTS}/libvirtd.service": ""}
    assert level("boot.hypervisor-after-switch", facts_of(tmp_path, QUIET | BOTH | enabled)) is GOOD
    enabled |= {f"{WANTS}/openvswitch.service": ""}
    assert level("boot.hypervisor-after-switch", facts_of(tmp_path, QUIET | BOTH | enabled)) is PROBLEM


def test_what_stands_between_two_units_orders_them_only_if_it_is_started(tmp_path: Path) -> None:
    """After=network.target orders nothing where nothing wants that target."""
    tree = {
        f"{UNITS}/libvirtd.service": "[Unit]\nAfter=network.target\n",
        f"{UNITS}/openvswitch.service": "[Unit]\nBefore=network.target\n",
        f"{UNITS}/network.target": "[Unit]\n",
        f"{WANTS}/libvirtd.service": "",
        f"{WANTS}/openvswitch.service": "",
    }
    (result,) = results("boot.hypervisor-after-switch", facts_of(tmp_path / "a", QUIET | tree))
    assert (result.level, "what stands between them is not started" in result.found) == (PROBLEM, True)
    tree |= {f"{UNITS}/networking.service": "[Unit]\nWants=network.target\n", f"{WANTS}/networking.service": ""}
    assert level("boot.hypervisor-after-switch", facts_of(tmp_path / "b", QUIET | tree)) is GOOD


def test_a_service_may_call_a_daemon_by_its_socket_whichever_starts_first(tmp_path: Path) -> None:
    """RDO's nova-compute is ordered after libvirtd, and on RHEL 9 virtqemud answers, by a socket."""
    tree = {
        f"{UNITS}/openstack-nova-compute.service": "[Unit]\nAfter=libvirtd.service\n",
        f"{UNITS}/virtqemud.service": "[Unit]\nAfter=libvirtd.service\n",
        f"{UNITS}/virtqemud.socket": "[Socket]\n",
        f"{WANTS}/openstack-nova-compute.service": "",
        f"{WANTS}/virtqemud.service": "",
    }
    assert level("boot.compute-after-hypervisor", facts_of(tmp_path / "a", QUIET | tree)) is PROBLEM
    tree |= {"/etc/systemd/system/sockets.target.wants/virtqemud.socket": ""}
    (result,) = results("boot.compute-after-hypervisor", facts_of(tmp_path / "b", QUIET | tree))
    assert (result.level, "by virtqemud.socket" in result.found) == (GOOD, True)


def test_what_runs_and_is_not_enabled_does_not_come_back(tmp_path: Path) -> None:
    other = {f"{WANTS}/openvswitch.service": ""}
    (result,) = results("boot.comes-back", facts_of(tmp_path, QUIET | BOTH | RUNNING | other))
    assert (result.level, result.mend) == (PROBLEM, "systemctl enable libvirtd.service")
    by_socket = {"/etc/systemd/system/sockets.target.wants/libvirtd.socket": ""}
    assert level("boot.comes-back", facts_of(tmp_path, QUIET | BOTH | RUNNING | other | by_socket)) is GOOD


def test_without_any_link_nobody_knows_what_is_enabled(tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "a", QUIET | BOTH | RUNNING)
    assert level("boot.comes-back", facts) is NOT_KNOWN
    assert level("boot.hypervisor-after-switch", facts) is PROBLEM
    assert level("boot.comes-back", facts_of(tmp_path / "b", QUIET)) is GOOD


def test_units_pull_in_others() -> None:
    units = {
        "a.service": "[Unit]\nWants=b.service\nRequires=c.target\n",
        "d.socket": "[Socket]\nService=e.service\n",
        "g.service": "",
    }
    linked = {"multi-user.target": {"a.service", "d.socket", "t.timer"}, "c.target": {"f.service"}}
    linked["rescue.target"] = {"g.service"}
    assert started(units, linked) == {
        "multi-user.target", "a.service", "b.service", "c.target", "d.socket", "e.service", "f.service",
        "t.timer", "t.service",
    }  # fmt: skip


def test_units_that_want_each_other_are_no_loop() -> None:
    assert started({"a.service": "Wants=b.service", "b.service": "Wants=a.service"}, {"x": {"a.service"}}) == {
        "x",
        "a.service",
        "b.service",
    }


def test_the_unit_of_a_process() -> None:
    assert unit_of("0::/system.slice/libvirtd.service\n") == "libvirtd.service"
    assert unit_of("8:pids:/x\n1:name=systemd:/system.slice/nova-compute.service\n") == "nova-compute.service"
    assert unit_of("0::/system.slice/docker-12ab.scope\n") == unit_of("0::/user.slice/a.service") == ""

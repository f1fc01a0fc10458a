"""OpenStack as others install it: Kolla's folders, and the files of Red Hat's packages."""

from pathlib import Path

from tests.unit.doctor.trees import QUIET, facts_of, level, results

from muster.doctor.facts import Facts, Reading
from muster.doctor.findings import Level

GOOD, ADVICE, PROBLEM, NOT_KNOWN = Level.GOOD, Level.ADVICE, Level.PROBLEM, Level.NOT_KNOWN
URL = "transport_url = rabbit://openstack:SECRET@10.0.0.5:5672//\n"
KOLLA = {
    "/etc/kolla/nova-compute/nova.conf": f"[DEFAULT]\n{URL}ram_allocation_ratio = 1.5\ncpu_allocation_ratio = 2.0\n",
    "/etc/kolla/nova-conductor/nova.conf": f"[DEFAULT]\n{URL}ram_allocation_ratio = 9.0\n",
    "/etc/kolla/neutron-openvswitch-agent/neutron.conf": (
        f"[DEFAULT]\n{URL}[oslo_messaging_rabbit]\nheartbeat_timeout_threshold = 0\n"
        "[agent]\nroot_helper = sudo neutron-rootwrap /etc/neutron/rootwrap.conf\n"
    ),
    "/etc/kolla/neutron-openvswitch-agent/openvswitch_agent.ini": "[securitygroup]\nfirewall_driver = iptables\n",
    "/etc/kolla/nova-libvirt/libvirtd.conf": "max_clients = 20\n",
    "/etc/kolla/nova-libvirt/qemu.conf": "max_files = 5\n",
    "/etc/kolla/rabbitmq/rabbitmq.conf": "heartbeat = 0\n",
    "/proc/sys/net/bridge/bridge-nf-call-iptables": "0\n",
}


def test_kollas_folders_are_read(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, QUIET | KOLLA)
    for check in ("messages.openstack-heartbeat", "messages.rabbitmq", "libvirt.max-clients"):
        assert level(check, facts) is PROBLEM, check
    assert level("openstack.rootwrap", facts) is ADVICE
    assert level("qemu.max-files", facts) is PROBLEM
    assert level("network.bridge-filtering", facts) is PROBLEM
    ram, cpu = results("memory.ratios", facts)
    assert (ram.level, cpu.level) == (ADVICE, GOOD)
    assert "1.5" in ram.found
    assert "kolla-ansible reconfigure" in ram.mend
    (clients,) = results("libvirt.max-clients", facts)
    assert "templates/libvirtd.conf.j2" in clients.mend  # kolla-ansible reads no other file for it
    assert "kolla-ansible reconfigure" in clients.mend


def test_what_kolla_hides_from_users_is_not_known(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, QUIET | KOLLA)
    files = {path: reading for path, reading in facts.files.items() if not path.startswith("/etc/kolla/")}
    denied = {
        f"/etc/kolla/{name}": Reading(None, "permission denied; needs root")
        for name in ("nova-compute", "nova-libvirt")
    }
    unread = Facts(files=files | denied, services=facts.services, is_root=False)
    for check in ("memory.ratios", "memory.reserved", "libvirt.max-clients", "qemu.max-files"):
        assert level(check, unread) is NOT_KNOWN, check


def test_what_red_hats_packages_bring_comes_before_what_was_set(tmp_path: Path) -> None:
    """Their root_helper_daemon stands in /usr/share, and was not seen."""
    helper = "root_helper = sudo neutron-rootwrap /etc/neutron/rootwrap.conf\n"
    tree = {
        "/usr/share/neutron/neutron-dist.conf": f"[agent]\n{helper}root_helper_daemon = sudo x-rootwrap-daemon y\n",
        "/etc/neutron/neutron.conf": f"[agent]\n{helper}",
    }
    assert level("openstack.rootwrap", facts_of(tmp_path / "a", QUIET | tree)) is GOOD
    tree["/etc/neutron/conf.d/common/a.conf"] = "[agent]\nroot_helper_daemon =\n"
    assert level("openstack.rootwrap", facts_of(tmp_path / "b", QUIET | tree)) is ADVICE

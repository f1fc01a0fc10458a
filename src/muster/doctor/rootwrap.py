"""How OpenStack's services become root: a Python start-up for each command, or a daemon (R C4).

Neutron from 21 on does what it does often (iptables, ipset, ovs-ofctl, ip, sysctl) by privsep, which is a daemon
whatever is set here; only files, DHCP servers and monitors are left to rootwrap. So this is advice.
"""

from collections.abc import Iterable

from muster.doctor.facts import Facts
from muster.doctor.findings import Check, Plan, Result, advice, good, not_known
from muster.doctor.openstack import Setting, is_here, kind, settings_of, unread, where


def _check(facts: Facts, _: Plan) -> Iterable[Result]:
    found: list[Result] = []
    for service in facts.services:
        if is_here(facts, service):
            found += _of_service(service, settings_of(facts, service))
    hidden = unread(facts, *facts.services)
    return [*found, *(not_known("; ".join(hidden)) if hidden else ())] or good(
        "No OpenStack service here uses rootwrap"
    )


def _of_service(service: str, settings: dict[tuple[str, str], Setting]) -> list[Result]:
    values = [(name, setting.value) for (_, name), setting in settings.items()]
    helpers = [value for name, value in values if name == "root_helper" and "rootwrap" in value]
    has_daemon = any(name == "root_helper_daemon" and value for name, value in values)
    by_nova = settings.get(("DEFAULT", "use_rootwrap_daemon"))
    if not helpers:
        return good(f"{service}: no root_helper by rootwrap")
    if has_daemon or (by_nova is not None and by_nova.value.lower() == "true"):
        return good(f"{service}: rootwrap as a daemon")
    name = kind(service)
    command = f"{name}-rootwrap-daemon /etc/{name}/rootwrap.conf"
    mend = f"[agent] root_helper_daemon = sudo {command} in {where(service)}, and the command in sudoers"
    return advice(f"{service}: root_helper = {helpers[0]}, and no root_helper_daemon", mend)


CHECKS = (
    Check(
        id="openstack.rootwrap",
        what="Commands as root",
        cost="A Python start-up for each command by rootwrap: 59 ms instead of 9 ms; since Neutron 21 few are left",
        source="R C4; neutron: root_helper_daemon; neutron 21: neutron/agent, privsep_exec",
        run=_check,
    ),
)

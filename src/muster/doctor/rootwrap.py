"""How OpenStack's services become root: a Python start-up for each command, or a daemon (R C4)."""

from collections.abc import Iterable

from muster.doctor.facts import Facts
from muster.doctor.findings import Check, Plan, Result, good, not_known, problem
from muster.doctor.texts import oslo_settings

_FOLDERS = ("/etc/nova", "/etc/neutron", "/etc/neutron/plugins/ml2", "/etc/cinder")


def _check(facts: Facts, _: Plan) -> Iterable[Result]:
    found: list[Result] = []
    by_service: dict[str, dict[tuple[str, str], str]] = {}
    for folder in _FOLDERS:
        for text in facts.below(folder).values():
            by_service.setdefault("/".join(folder.split("/")[:3]), {}).update(oslo_settings(text))
    for service, settings in by_service.items():
        found += _of_service(service, settings)
    unread = facts.unread(*_FOLDERS)
    return [*found, *(not_known("; ".join(unread)) if unread else ())] or good(
        "No OpenStack service here uses rootwrap"
    )


def _of_service(service: str, settings: dict[tuple[str, str], str]) -> list[Result]:
    helpers = [value for (_, name), value in settings.items() if name == "root_helper" and "rootwrap" in value]
    daemons = [value for (_, name), value in settings.items() if name == "root_helper_daemon" and value]
    if settings.get(("DEFAULT", "use_rootwrap_daemon"), "").lower() == "true":
        daemons.append("use_rootwrap_daemon")
    if not helpers:
        return good(f"{service}: no root_helper by rootwrap")
    if daemons:
        return good(f"{service}: rootwrap as a daemon")
    name = service.rpartition("/")[2]
    command = f"{name}-rootwrap-daemon {service}/rootwrap.conf"
    mend = f"[agent] root_helper_daemon = sudo {command}, and the command in sudoers"
    return problem(f"{service}: root_helper = {helpers[0]}, and no root_helper_daemon", mend)


CHECKS = (
    Check(
        id="openstack.rootwrap",
        what="Commands as root",
        cost="A Python start-up for each command: 59 ms instead of 9 ms",
        source="R C4; neutron: root_helper_daemon",
        run=_check,
    ),
)

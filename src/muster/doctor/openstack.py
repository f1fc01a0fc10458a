"""The settings of OpenStack's services, put together as oslo.config does: files, then parts; the last one counts.

Sources: oslo.config, `find_config_dirs`; Debian's /etc/init.d/neutron-*, which name `agent.conf.d` and `server.conf.d`.
"""

from collections.abc import Iterable

from msgspec import Struct

from muster.doctor.facts import Facts
from muster.doctor.texts import for_people, oslo_settings

_KOLLA = "/etc/kolla"


class Setting(Struct, frozen=True):
    """A value, and the file that says it."""

    value: str
    path: str


def settings_of(facts: Facts, service: str) -> dict[tuple[str, str], Setting]:
    """By section and name, of a service that is named by its folder (`/etc/nova`); empty where it is not here."""
    found: dict[tuple[str, str], Setting] = {}
    for path, text in _files(facts, service):
        found |= {name: Setting(value, path) for name, value in oslo_settings(text).items()}
    return found


def is_here(facts: Facts, service: str) -> bool:
    """Whether any file of its settings was read."""
    return any(True for _ in _files(facts, service))


def unread(facts: Facts, *services: str) -> list[str]:
    """Files and folders of their settings that are there and could not be read, with the reason."""
    return facts.unread(*(folder for service in services for folder in facts.services.get(service, ())))


def _files(facts: Facts, service: str) -> Iterable[tuple[str, str]]:
    """nova.conf before nova-compute.conf beside it, and parts after both."""
    main = f"{service}/{kind(service)}.conf"
    for folder in facts.services.get(service, ()):
        yield from sorted(facts.below(folder).items(), key=lambda file: (file[0] != main, file[0]))


def kind(service: str) -> str:
    """`nova`, `neutron` or `cinder`; Kolla has a folder for each of their programs."""
    return service.rpartition("/")[2].partition("-")[0]


def computes(facts: Facts) -> list[str]:
    """The services that say what a host of nova gives away: nova's, of Kolla's only nova-compute's."""
    of_nova = [service for service in facts.services if kind(service) == "nova" and is_here(facts, service)]
    return [service for service in of_nova if not service.startswith(_KOLLA) or service == f"{_KOLLA}/nova-compute"]


def where(service: str) -> str:
    """Where somebody changes its settings: Kolla writes them anew."""
    name = kind(service)
    if service.startswith(_KOLLA):
        return f"/etc/kolla/config/{name}.conf of the machine that deploys, then kolla-ansible reconfigure"
    return for_people(f"{service}/{name}.conf")

"""The settings of OpenStack's services, put together as oslo.config does: files, then parts; the last one counts.

Sources: oslo.config, `find_config_dirs`; Debian's /etc/init.d/neutron-*, which name `agent.conf.d` and `server.conf.d`.
"""

from collections.abc import Iterable

from msgspec import Struct

from muster.doctor.facts import OPENSTACK_FOLDERS, Facts
from muster.doctor.texts import oslo_settings


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
    return facts.unread(*(folder for service in services for folder in OPENSTACK_FOLDERS[service]))


def _files(facts: Facts, service: str) -> Iterable[tuple[str, str]]:
    """nova.conf before nova-compute.conf beside it, and parts after both."""
    main = f"{service}/{service.rpartition('/')[2]}.conf"
    for folder in OPENSTACK_FOLDERS[service]:
        yield from sorted(facts.below(folder).items(), key=lambda file: (file[0] != main, file[0]))

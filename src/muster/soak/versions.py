"""Which combination of versions a server runs on (R B1): what clouds tell of hosts, and what the operator says.

A cloud tells its administrators a server's host, and of a host its hypervisor's type and version; of kernel, libvirt,
Open vSwitch and dnsmasq no public API tells anything. Those come from files. What somebody said of a part counts more
than what the cloud tells.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from muster.base.errors import Invalid
from muster.client.bodies import Hypervisor, Server
from muster.soak.scenario import read_table

UNKNOWN = "not known"
NOWHERE = "on no host"
# Failures that say nothing of any host: the API was not reached.
NO_ANSWER = "no answer from the API"
_PARTS = ("kernel", "qemu", "libvirt", "openvswitch", "dnsmasq")

Parts = Mapping[str, str]


def read_versions(files: Sequence[str]) -> dict[str, Parts]:
    """What files say of hosts: a table host -> part -> version, or what `muster doctor --json` printed on one host.

    Raises Invalid for another file.
    """
    found: dict[str, Parts] = {}
    for name in files:
        said = read_table(Path(name))
        if "findings" in said:
            said = {str(said.get("host") or ""): said.get("versions")}
        for host, parts in said.items():
            if not host or not isinstance(parts, dict):
                raise Invalid(
                    f"{name} must say for each host which version of each part it runs, or be what "
                    "`muster doctor --json` printed there"
                )
            found[host] = {str(part): _text(name, str(part), version) for part, version in parts.items()}
    return found


def _text(name: str, part: str, version: object) -> str:
    """A version as it was written. 9.10 without quotes is the number 9.1, and another version."""
    if not isinstance(version, str):
        raise Invalid(f'{name}: the version of {part} must stand in quotes: {part} = "{version}" or what it really is')
    return version


class Versions:
    """The combinations of a cloud's hosts."""

    def __init__(self, said: Mapping[str, Parts]) -> None:
        self._said = said
        self._told: dict[str, Parts] = {}
        self._seen: dict[str, set[str]] = {}

    def learn(self, hypervisors: Sequence[Hypervisor]) -> None:
        """What the cloud tells now."""
        self._told = {one.hypervisor_hostname: _told(one) for one in hypervisors}

    def combination(self, server: Server | None) -> str:
        """The combination of the server's host, for a table; UNKNOWN when nobody tells, NOWHERE when it has no host."""
        if server is None:
            return NOWHERE
        names = [name for name in (server.hypervisor, server.host, server.host_id) if name]
        if not names:
            return NOWHERE
        parts: dict[str, str] = {}
        for source in (self._told, self._said):
            for name in reversed(names):
                parts.update(_of_host(source, name))
        text = written(parts)
        self._seen.setdefault(text, set()).add(names[0])
        return text

    def hosts(self) -> dict[str, list[str]]:
        """The hosts that were seen with each combination."""
        return {combination: sorted(hosts) for combination, hosts in self._seen.items()}


def written(parts: Parts) -> str:
    """`kernel 6.1.76, qemu 7.2.9, ...`, known parts first; UNKNOWN of nothing."""
    names = [part for part in _PARTS if part in parts] + sorted(parts.keys() - set(_PARTS))
    return ", ".join(f"{name} {parts[name]}".rstrip() for name in names) or UNKNOWN


def _told(hypervisor: Hypervisor) -> Parts:
    """Nova's drivers tell QEMU's version as 1,000,000 x major + 1,000 x minor + micro."""
    number = hypervisor.hypervisor_version
    version = str(number) if number else ""
    if number >= 1_000_000:
        version = f"{number // 1_000_000}.{number // 1_000 % 1_000}.{number % 1_000}"
    return {hypervisor.hypervisor_type.lower() or "hypervisor": version}


def _of_host(source: Mapping[str, Parts], name: str) -> Parts:
    """By its name; one without a domain is the host of that name in any domain, if there is one only."""
    short = name.partition(".")[0]
    if name in source or short in source:
        return source.get(name, source.get(short, {}))
    alike = [host for host in source if host.partition(".")[0] == name]
    return source[alike[0]] if len(alike) == 1 else {}

"""The parts of OpenStack's response bodies that are read; all else is skipped while decoding.

Source: the API references of compute v2.1, network v2.0 and image v2.
"""

from typing import TypeVar

import msgspec

from muster.base.errors import Transient

T = TypeVar("T")


class Link(msgspec.Struct, frozen=True):
    href: str
    rel: str = ""


class ServerFault(msgspec.Struct, frozen=True):
    message: str = ""
    code: int = 0


class ServerAddress(msgspec.Struct, frozen=True, rename={"kind": "OS-EXT-IPS:type"}):
    addr: str
    version: int = 4
    kind: str = "fixed"


_SERVER_FIELDS = {
    "launched_at": "OS-SRV-USG:launched_at",
    "task_state": "OS-EXT-STS:task_state",
    "host": "OS-EXT-SRV-ATTR:host",
    "hypervisor": "OS-EXT-SRV-ATTR:hypervisor_hostname",
    "host_id": "hostId",
}


class Server(msgspec.Struct, frozen=True, rename=_SERVER_FIELDS):
    """One entry of GET /servers/detail; of GET /servers only id and name are there.

    `host` and `hypervisor` are told to administrators only; `host_id` is what tells hosts apart for others.
    """

    id: str
    name: str = ""
    status: str = ""
    created: str | None = None
    updated: str | None = None
    launched_at: str | None = None
    addresses: dict[str, list[ServerAddress]] = {}
    fault: ServerFault | None = None
    task_state: str | None = None
    host: str | None = None
    hypervisor: str | None = None
    host_id: str = ""
    metadata: dict[str, str] = {}


class ServerList(msgspec.Struct, frozen=True):
    servers: list[Server]
    servers_links: list[Link] = []


class CreatedServer(msgspec.Struct, frozen=True):
    server: Server


class Attachment(msgspec.Struct, frozen=True):
    """An interface of a server."""

    port_id: str
    net_id: str = ""


class AttachmentList(msgspec.Struct, frozen=True, rename={"attachments": "interfaceAttachments"}):
    attachments: list[Attachment]


class CreatedAttachment(msgspec.Struct, frozen=True, rename={"attachment": "interfaceAttachment"}):
    attachment: Attachment


class HostService(msgspec.Struct, frozen=True):
    """Where a hypervisor's agent runs."""

    host: str = ""


class Hypervisor(msgspec.Struct, frozen=True):
    """One entry of GET /os-hypervisors/detail, which is for administrators.

    `memory_mb_used` is what servers were promised and what the host keeps for itself. `state` is up or down, `status`
    enabled or disabled.
    """

    hypervisor_hostname: str
    hypervisor_type: str = ""
    hypervisor_version: int = 0
    vcpus: int = 0
    memory_mb: int = 0
    memory_mb_used: int = 0
    running_vms: int = 0
    state: str = "up"
    status: str = "enabled"
    service: HostService = HostService()

    @property
    def takes_servers(self) -> bool:
        """Whether the scheduler may choose it."""
        return self.state != "down" and self.status != "disabled"

    def is_called(self, name: str) -> bool:
        """Whether it goes by this name."""
        return name in (self.hypervisor_hostname, self.service.host)


class HypervisorList(msgspec.Struct, frozen=True):
    hypervisors: list[Hypervisor]


class ComputeService(msgspec.Struct, frozen=True):
    host: str
    zone: str = ""


class ServiceList(msgspec.Struct, frozen=True):
    services: list[ComputeService]


class Port(msgspec.Struct, frozen=True):
    id: str
    device_id: str = ""


class PortList(msgspec.Struct, frozen=True):
    ports: list[Port]


class KeyPair(msgspec.Struct, frozen=True):
    name: str


class KeyPairEntry(msgspec.Struct, frozen=True):
    keypair: KeyPair


class KeyPairList(msgspec.Struct, frozen=True):
    keypairs: list[KeyPairEntry]


class Flavor(msgspec.Struct, frozen=True):
    id: str
    name: str = ""
    ram: int = 0
    vcpus: int = 0
    disk: int = 0


class FlavorList(msgspec.Struct, frozen=True):
    flavors: list[Flavor]


class Image(msgspec.Struct, frozen=True):
    id: str
    name: str | None = None
    status: str = "active"


class ImageList(msgspec.Struct, frozen=True):
    images: list[Image]


class Network(msgspec.Struct, frozen=True, rename={"external": "router:external"}):
    id: str
    name: str = ""
    external: bool = False
    subnets: list[str] = []


class NetworkList(msgspec.Struct, frozen=True):
    networks: list[Network]


class SecurityGroup(msgspec.Struct, frozen=True):
    id: str
    name: str = ""


class SecurityGroupList(msgspec.Struct, frozen=True):
    security_groups: list[SecurityGroup]


class CreatedSecurityGroup(msgspec.Struct, frozen=True):
    security_group: SecurityGroup


def decode(data: bytes, kind: type[T]) -> T:
    """The body as `kind`. Raises Transient for a body that is not what the API reference says."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Transient(f"an answer is not what the API says: {error}", code="client.body") from error


def best_address(server: Server) -> str | None:
    """Where to reach the server: a floating address before a fixed one, IPv4 before IPv6."""
    found = [address for network in server.addresses.values() for address in network]
    found.sort(key=lambda address: (address.kind != "floating", address.version))
    return found[0].addr if found else None

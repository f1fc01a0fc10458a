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


class Server(msgspec.Struct, frozen=True, rename={"launched_at": "OS-SRV-USG:launched_at"}):
    """One entry of GET /servers/detail; of GET /servers only id and name are there."""

    id: str
    name: str = ""
    status: str = ""
    created: str | None = None
    updated: str | None = None
    launched_at: str | None = None
    addresses: dict[str, list[ServerAddress]] = {}
    fault: ServerFault | None = None


class ServerList(msgspec.Struct, frozen=True):
    servers: list[Server]
    servers_links: list[Link] = []


class CreatedServer(msgspec.Struct, frozen=True):
    server: Server


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

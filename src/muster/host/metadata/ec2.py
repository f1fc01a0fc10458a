"""The EC2 tree of metadata, for guests that ask for it first. Source: Nova's user documentation, "Metadata",
section "EC2-compatible metadata".

Invariant: pure functions; a leaf is never also a folder.
"""

from typing import Any

from muster.domain.specs import ServerSpec
from muster.host.metadata.openstack import hostname_of, user_data_of

#: The versions that Nova offers.
VERSIONS = (
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
)
LATEST = "latest"


def instance_id(server_id: str) -> str:
    """An id of EC2's form, `i-` and 17 hexadecimal digits, that depends on the server's id alone."""
    return "i-" + server_id.replace("-", "").lower()[:17]


def meta_data(server: ServerSpec, domain: str = "") -> dict[str, str]:
    """The leaves below `meta-data/` by path."""
    hostname = hostname_of(server, domain)
    image = server.image.id if server.image else ""
    leaves = {
        "ami-id": "ami-" + image.replace("-", "")[:17],
        "ami-launch-index": "0",
        "ami-manifest-path": "FIXME",  # the very word that Nova sends: there is no manifest
        "block-device-mapping/ami": "vda",
        "block-device-mapping/root": "/dev/vda",
        "hostname": hostname,
        "instance-action": "none",
        "instance-id": instance_id(server.id),
        "instance-type": server.flavor_name,
        "local-hostname": hostname,
        "local-ipv4": _first_ipv4(server),
        "placement/availability-zone": server.availability_zone,
        "public-hostname": hostname,
        "public-ipv4": "",
        "reservation-id": "r-" + server.id.replace("-", "").lower()[:8],
    }
    if server.key is not None:
        leaves["public-keys/0/openssh-key"] = server.key.public_key
    return leaves


def document(server: ServerSpec, domain: str = "") -> dict[str, Any]:
    """The leaves as the one JSON document that the config drive has: a folder is an object.

    As Nova writes it, a key's object also has its line in the listing of keys, as `_name`.
    """
    nested: dict[str, Any] = {}
    for path, text in meta_data(server, domain).items():
        *folders, name = path.split("/")
        folder = nested
        for part in folders:
            folder = folder.setdefault(part, {})
        folder[name] = text
    if server.key is not None:
        nested["public-keys"]["0"]["_name"] = f"0={server.key.name}"
    return nested


def files(server: ServerSpec, domain: str = "") -> dict[str, bytes]:
    """All leaves of the tree by path, of each version and of `latest`. Raises Invalid when user data is not base64."""
    leaves = {"meta-data/" + path: text.encode() for path, text in meta_data(server, domain).items()}
    if (user_data := user_data_of(server)) is not None:
        leaves["user-data"] = user_data
    return {f"{version}/{path}": content for version in (*VERSIONS, LATEST) for path, content in leaves.items()}


def _first_ipv4(server: ServerSpec) -> str:
    addresses = (fixed.ip_address for port in server.ports for fixed in port.fixed_ips)
    return next((address for address in addresses if ":" not in address), "")

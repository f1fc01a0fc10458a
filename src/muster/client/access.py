"""How a run gets to its servers: a key of its own, and a security group that lets ICMP and ssh in.

Invariant: a private key is in a file that only this user can read.
"""

import asyncio
from pathlib import Path
from urllib.parse import quote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from muster.base.errors import Conflict
from muster.client.api import Api, Call
from muster.client.bodies import CreatedSecurityGroup, SecurityGroupList
from muster.client.cloud import Service
from muster.client.faults import neutron_type, refusal

# A cloud may take a moment to free a deleted server's port, which still uses the group.
GROUP_IN_USE_TRIES = 10
GROUP_IN_USE_PAUSE_S = 1.0


def new_key(directory: Path) -> tuple[Path, str]:
    """Write a new ed25519 private key, readable by its owner alone; its file and the public key's line."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    file = directory / "id_ed25519"
    file.touch(mode=0o600)
    file.write_bytes(private)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return file, public.decode()


async def register_key(api: Api, name: str, public: str) -> None:
    """Make the public key known as a key pair. Cost: one request."""
    body = {"keypair": {"name": name, "public_key": public}}
    await api.send(Call("POST keypair", "POST", Service.COMPUTE, "/os-keypairs", body, ok=(200, 201)))


async def remove_key(api: Api, name: str) -> None:
    """Remove the key pair. Raises NotFound when there is none. Cost: one request."""
    path = f"/os-keypairs/{quote(name, safe='')}"
    await api.send(Call("DELETE keypair", "DELETE", Service.COMPUTE, path, ok=(202, 204)))


async def create_group(api: Api, name: str, description: str) -> str:
    """Make a security group; its id. Cost: one request."""
    body = {"security_group": {"name": name, "description": description}}
    call = Call("POST security-group", "POST", Service.NETWORK, "/security-groups", body, ok=(201,))
    return (await api.get(call, CreatedSecurityGroup)).security_group.id


async def let_in(api: Api, group_id: str, ssh_port: int) -> None:
    """Add rules for ICMP and ssh, over IPv4 and IPv6; those that are there already stay. Cost: four requests.

    Raises what `Api.send` raises, Conflict where the quota allows no more.
    """
    for ethertype, icmp in (("IPv4", "icmp"), ("IPv6", "ipv6-icmp")):
        await _allow(api, group_id, ethertype, {"protocol": icmp})
        await _allow(
            api, group_id, ethertype, {"protocol": "tcp", "port_range_min": ssh_port, "port_range_max": ssh_port}
        )


async def _allow(api: Api, group_id: str, ethertype: str, what: dict[str, object]) -> None:
    rule = {"security_group_id": group_id, "direction": "ingress", "ethertype": ethertype, **what}
    body = {"security_group_rule": rule}
    call = Call("POST security-group-rule", "POST", Service.NETWORK, "/security-group-rules", body, ok=(201, 409))
    response = await api.send(call)
    # A quota that is used up is a conflict too.
    if response.status == 409 and neutron_type(response.body) != "SecurityGroupRuleExists":
        raise refusal(call.what, response)


async def remove_group_named(api: Api, name: str) -> None:
    """Remove the group of this name, if there is one: also one whose creation was never answered.

    Cost: one request, and what `remove_group` does. Raises what that raises.
    """
    path = f"/security-groups?name={quote(name, safe='')}&fields=id&fields=name"
    found = await api.get(Call("GET security-groups", "GET", Service.NETWORK, path), SecurityGroupList)
    for group in found.security_groups:
        if group.name == name:
            await remove_group(api, group.id)


async def remove_group(api: Api, group_id: str) -> None:
    """Remove the group, waiting some seconds for ports that still use it. Raises what `Api.send` raises."""
    call = Call("DELETE security-group", "DELETE", Service.NETWORK, f"/security-groups/{group_id}", ok=(204,))
    for _ in range(GROUP_IN_USE_TRIES - 1):
        try:
            await api.send(call)
        except Conflict:
            api.tally.retries[call.what] += 1
            await asyncio.sleep(GROUP_IN_USE_PAUSE_S)
        else:
            return
    await api.send(call)

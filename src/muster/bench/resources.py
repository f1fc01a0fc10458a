"""What a run makes besides servers: a key pair and a security group, named with the run's prefix.

Invariant: the private key is in a file that only this user can read, in a directory that the run removes.
"""

import asyncio
import shutil
import tempfile
from pathlib import Path
from urllib.parse import quote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from muster.base.errors import Conflict
from muster.bench.api import Api, Call
from muster.bench.bodies import CreatedSecurityGroup
from muster.bench.cloud import Service
from muster.bench.undo import Undo

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


async def make_key_pair(api: Api, name: str, undo: Undo) -> Path:
    """Make a key pair and register its public half; the private key's file. Cost: one request."""
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=name + "-"))

    async def forget() -> None:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    undo.push("directory with the private key", str(directory), forget)
    file, public = await asyncio.to_thread(new_key, directory)

    async def remove() -> None:
        path = f"/os-keypairs/{quote(name, safe='')}"
        await api.send(Call("DELETE keypair", "DELETE", Service.COMPUTE, path, ok=(202, 204)))

    undo.push("keypair", name, remove)
    body = {"keypair": {"name": name, "public_key": public}}
    await api.send(Call("POST keypair", "POST", Service.COMPUTE, "/os-keypairs", body, ok=(200, 201)))
    return file


async def make_security_group(api: Api, name: str, ssh_port: int, undo: Undo) -> str:
    """Make a security group that lets ICMP and ssh in, over IPv4 and IPv6; its id. Cost: five requests."""
    body = {"security_group": {"name": name, "description": "muster bench servers: ICMP and ssh"}}
    call = Call("POST security-group", "POST", Service.NETWORK, "/security-groups", body, ok=(201,))
    group = (await api.get(call, CreatedSecurityGroup)).security_group
    undo.push("security group", group.id, lambda: _remove_group(api, group.id))
    for ethertype, icmp in (("IPv4", "icmp"), ("IPv6", "ipv6-icmp")):
        await _allow(api, group.id, ethertype, {"protocol": icmp})
        await _allow(
            api, group.id, ethertype, {"protocol": "tcp", "port_range_min": ssh_port, "port_range_max": ssh_port}
        )
    return group.id


async def _allow(api: Api, group_id: str, ethertype: str, what: dict[str, object]) -> None:
    rule = {"security_group_id": group_id, "direction": "ingress", "ethertype": ethertype, **what}
    body = {"security_group_rule": rule}
    path = "/security-group-rules"
    await api.send(Call("POST security-group-rule", "POST", Service.NETWORK, path, body, ok=(201,)))


async def _remove_group(api: Api, group_id: str) -> None:
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

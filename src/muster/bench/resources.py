"""What a run makes besides servers: a key pair and a security group, named with the run's prefix.

Invariant: the private key is in a file that only this user can read, in a directory that the run removes.
"""

import asyncio
import shutil
import tempfile
from pathlib import Path

from muster.bench.undo import Undo
from muster.client.access import create_group, let_in, new_key, register_key, remove_group_named, remove_key
from muster.client.api import Api


async def make_key_pair(api: Api, name: str, undo: Undo) -> Path:
    """Make a key pair and register its public half; the private key's file. Cost: one request."""
    directory = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=name + "-"))

    async def forget() -> None:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    undo.push("directory with the private key", str(directory), forget)
    file, public = await asyncio.to_thread(new_key, directory)
    undo.push("keypair", name, lambda: remove_key(api, name))
    await register_key(api, name, public)
    return file


async def make_security_group(api: Api, name: str, ssh_port: int, undo: Undo) -> str:
    """Make a security group that lets ICMP and ssh in, over IPv4 and IPv6; its id. Cost: five requests."""
    undo.push("security group", name, lambda: remove_group_named(api, name))
    group_id = await create_group(api, name, "muster bench servers: ICMP and ssh")
    await let_in(api, group_id, ssh_port)
    return group_id

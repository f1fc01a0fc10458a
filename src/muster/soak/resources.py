"""What a soak makes besides servers: security groups, and a key pair for logins; all found again by their names.

Invariant: to prepare again, after an interruption at any moment, ends with what preparing once ends with.
"""

import asyncio
import contextlib
from pathlib import Path

import msgspec

from muster.base.durable import replace_file
from muster.base.errors import Conflict, MusterError, NotFound
from muster.client.access import create_group, let_in, new_key, register_key, remove_group, remove_key
from muster.client.api import Api, Call
from muster.client.bodies import KeyPairList, SecurityGroup, SecurityGroupList
from muster.client.cloud import Service
from muster.soak.scenario import Scenario

KEY, PUBLIC = "id_ed25519", "id_ed25519.pub"


class Resources(msgspec.Struct, frozen=True):
    """Names of groups: the servers' own, and one that comes and goes; the key pair's name and file, if there is one."""

    group: str
    extra_group: str
    key_name: str | None
    key_file: Path | None


async def prepare(api: Api, wanted: Scenario, prefix: str, folder: Path) -> Resources:
    """Make what is missing. Cost: five requests, and three more the first time. Raises what `Api.send` raises."""
    group, extra = prefix + "servers", prefix + "extra"
    there = {one.name: one.id for one in await _groups(api, prefix)}
    group_id = there.get(group) or await create_group(api, group, "muster soak: ICMP and ssh")
    await let_in(api, group_id, wanted.ssh_port)  # an interrupted soak may have made some of the rules only
    if extra not in there:
        await create_group(api, extra, "muster soak: comes and goes")
    if not wanted.ssh:
        return Resources(group, extra, None, None)
    return Resources(group, extra, prefix + "key", await _key(api, prefix + "key", folder))


async def _key(api: Api, name: str, folder: Path) -> Path:
    file, public = folder / KEY, folder / PUBLIC
    line = public.read_text() if public.exists() else ""
    if not line:  # also where an interruption left it empty
        file.unlink(missing_ok=True)
        _, line = await asyncio.to_thread(new_key, folder)
        replace_file(public, line.encode())
    with contextlib.suppress(Conflict):  # registered before an interruption
        await register_key(api, name, line)
    return file


async def remove(api: Api, prefix: str) -> list[str]:
    """Remove what `prepare` made; what could not be removed, each with the reason. Servers must be gone."""
    left = []
    try:
        groups, keys = await _groups(api, prefix), await _keys(api, prefix)
    except MusterError as error:
        return [f"security groups and key pairs {prefix}*: {error.message}"]
    for group in groups:
        try:
            await remove_group(api, group.id)
        except NotFound:
            pass
        except MusterError as error:
            left.append(f"security group {group.name}: {error.message}")
    for name in keys:
        try:
            await remove_key(api, name)
        except NotFound:
            pass
        except MusterError as error:
            left.append(f"key pair {name}: {error.message}")
    return left


async def _groups(api: Api, prefix: str) -> list[SecurityGroup]:
    call = Call("GET security-groups", "GET", Service.NETWORK, "/security-groups?fields=id&fields=name")
    found = await api.get(call, SecurityGroupList)
    return [group for group in found.security_groups if group.name.startswith(prefix)]


async def _keys(api: Api, prefix: str) -> list[str]:
    found = await api.get(Call("GET keypairs", "GET", Service.COMPUTE, "/os-keypairs"), KeyPairList)
    return [entry.keypair.name for entry in found.keypairs if entry.keypair.name.startswith(prefix)]

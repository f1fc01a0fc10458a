"""Removes what soaks made, however they ended; everything is found by its name.

Invariant: only what is named as a soak names things is removed: `muster-soak-`, eight hexadecimal digits, `-`.
"""

import re
import time

from muster.base.errors import MusterError
from muster.client.api import Api, Call
from muster.client.bodies import KeyPairList, SecurityGroupList
from muster.client.cloud import Service
from muster.client.listing import Listing
from muster.client.sweep import Sweep
from muster.soak import resources

# How long to look for servers whose creation was cut off or never answered.
QUIET_S = 2.0
_MADE = re.compile(r"muster-soak-([0-9a-f]{8})-")


async def clean(api: Api, prefix: str, *, timeout_s: float) -> list[str]:
    """Remove all servers, groups and keys of a run; what could not be removed, each with the reason.

    Waits up to `timeout_s` for a cloud that is away. Cost: a listing per 0.5 s, a request per thing.
    """
    try:
        left = await Sweep(api, Listing(api, prefix), time.monotonic).run(quiet_s=QUIET_S, timeout_s=timeout_s)
    except MusterError as error:
        return [f"everything named {prefix}*: {error.message}"]
    return [
        *(f"server {server_id}: {reason}" for server_id, reason in left.items()),
        *await resources.remove(api, prefix),
    ]


async def runs(api: Api) -> set[str]:
    """The runs of which something is there. Cost: three requests. Raises what `Api.get` raises."""
    names = [server.name for server in await Listing(api, "muster-soak-").whole()]
    groups = Call("GET security-groups", "GET", Service.NETWORK, "/security-groups?fields=id&fields=name")
    names += [group.name for group in (await api.get(groups, SecurityGroupList)).security_groups]
    keys = Call("GET keypairs", "GET", Service.COMPUTE, "/os-keypairs")
    names += [entry.keypair.name for entry in (await api.get(keys, KeyPairList)).keypairs]
    return {found[1] for name in names if (found := _MADE.match(name)) is not None}

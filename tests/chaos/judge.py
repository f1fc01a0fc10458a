"""What must hold of a cluster that has come to rest, whatever happened: asked of database, API, hosts and etcd."""

import asyncio
import contextlib
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

from muster.lab.cluster import Lab
from muster.lab.parts.control import METRICS_PORT
from muster.lab.plan import Kind
from tests.audit import ledger, postgresql
from tests.chaos import images
from tests.chaos.failures import left_in_etcd
from tests.chaos.user import Answers, User

_LOOK_S = 0.5
_SCRAPE_S = 60.0
_GUESTS = re.compile(r'^muster_simulated_guests\{state="(\w+)"\} (\S+)$', re.M)
#: Beyond this a cluster that has been put right is called stuck.
REST_S = 600.0


async def eventually(what: str, check: Callable[[], Awaitable[bool]], timeout_s: float = REST_S) -> float:
    """How many seconds it takes until it is so."""
    began = time.monotonic()
    while not await check():
        assert time.monotonic() - began < timeout_s, f"not within {timeout_s:.0f} s: {what}"
        await asyncio.sleep(_LOOK_S)
    return time.monotonic() - began


async def at_rest(url: str) -> None:
    """Nothing is on its way any more."""
    last: dict[str, int] | None = None

    async def rests() -> bool:
        nonlocal last
        last = await postgresql.progress(url)
        return last is not None and last["busy"] == 0 and last["notes"] == 0

    try:
        await eventually("at rest", rests)
    except AssertionError as error:
        raise AssertionError(f"the cluster does not come to rest: {last}") from error


async def complaints(lab: Lab, user: User, answers: Answers, scratch: Path) -> list[str]:
    """What is wrong with a cluster at rest that has been asked for `answers`; nothing if all is well."""
    copy = await postgresql.copied(lab.site.database_url, scratch / "copy.db")
    found = await asyncio.to_thread(ledger.audit, copy)
    servers = await user.servers()
    names = [server["name"] for server in servers]
    there = {server["id"]: server["name"] for server in servers}
    found += [f"{name} is there {names.count(name)} times" for name in set(names) if names.count(name) > 1]
    found += [
        f"{server['name']} is {server['status']}: {server.get('fault', {}).get('message')}"
        for server in servers
        if server["status"] != "ACTIVE"
    ]
    found += [f"{name} was accepted, but is not there" for name, one in answers.accepted.items() if one not in there]
    strange = set(names) - answers.accepted.keys() - answers.broken
    found += [f"{name} is there, but was refused or never asked for" for name in strange]
    shown = [
        (address["addr"], server["id"])
        for server in servers
        for addresses in server["addresses"].values()
        for address in addresses
    ]
    found += [f"{len(shown)} addresses for {len(servers)} servers"] * (len(shown) != len(servers))
    found += ["an address is shown twice"] * (len(dict(shown)) != len(shown))
    given = await asyncio.to_thread(ledger.given_addresses, copy)
    found += ["the API shows other addresses than the database has"] * (dict(shown) != given)
    found += await asyncio.to_thread(_guests, lab, len(servers))
    found += await asyncio.to_thread(images.untrue, lab, copy)
    wrong = [server["name"] for server in servers if server["metadata"] != {"asked as": server["name"]}]
    return found + [f"{name} has what another was asked with" for name in wrong]


async def leftovers(lab: Lab, scratch: Path) -> list[str]:
    """What a cluster has left of servers that are all deleted."""
    copy = await postgresql.copied(lab.site.database_url, scratch / "copy.db")
    found = await asyncio.to_thread(ledger.audit, copy)
    found += [f"server {name} is left" for name in (await asyncio.to_thread(ledger.live_servers, copy)).values()]
    found += [f"address {one} is left" for one in await asyncio.to_thread(ledger.given_addresses, copy)]

    found += await asyncio.to_thread(_guests, lab, 0)

    async def unlocked() -> bool:
        return not await asyncio.to_thread(left_in_etcd, lab)

    with contextlib.suppress(AssertionError):
        await eventually("locks are free and leases gone", unlocked, 4.0 * lab.site.plan.settings.lock_lease_s)
    return found + [f"left in etcd: {one}" for one in await asyncio.to_thread(left_in_etcd, lab)]


def _guests(lab: Lab, servers: int) -> list[str]:
    """Whether hosts have as many guests as there are servers, all running: as they say themselves, by their metrics."""
    count: Counter[str] = Counter()
    for part in lab.site.plan.of(Kind.SIM_HOSTS):
        with urllib.request.urlopen(f"http://{part.address}:{METRICS_PORT}/metrics", timeout=_SCRAPE_S) as answer:
            for state, number in _GUESTS.findall(answer.read().decode()):
                count[state] += round(float(number))
    there = {state: number for state, number in count.items() if number}
    return [] if there == ({"running": servers} if servers else {}) else [f"{servers} servers, but hosts have {there}"]

"""Where new servers go: placed by a picture of the hosts, claimed by conditional writes, in the transaction of a batch.

Claims come last, as quotas do: a host's row is held for as long as a commit takes, so batches of several workers that
place servers on the same hosts do not follow each other. A host that turns out to have less than its picture said makes
the batch Stale. Decided again it claims first, and then such a host costs a new plan for the servers that were to go
there, and for no other. Invariant: nothing is ever claimed beyond a host's limits, whoever else claims meanwhile.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from muster.base.errors import Stale
from muster.domain.placement import Demand, GroupRule, HostPicture, Request, Search, Strategy, place, searches
from muster.domain.placement_refusals import Refusal, Room, refusal
from muster.domain.server_shares import demand
from muster.domain.servers import HOST_TIMEOUT_S, NewServer
from muster.store import hosts as host_store
from muster.store import outbox as outbox_store
from muster.store import server_groups as group_store
from muster.store.engine import Connection
from muster.store.host_room import read_room

_ROUNDS = 10


class ServerSettings(Struct, frozen=True, kw_only=True):
    """A host not heard of for `host_timeout_s` gets no new servers, unless nobody could be heard of.

    `default_availability_zone` is where servers go that name none (Nova's default_schedule_zone); None is anywhere.
    `strategy` chooses among the hosts that can take a server.
    """

    host_timeout_s: float = HOST_TIMEOUT_S
    default_availability_zone: str | None = None
    strategy: Strategy = Strategy.SPREAD


class Placement:
    """Places and claims for one batch. `hosts` are the hosts as last seen, by id.

    With `claims_first` a host's share is claimed as soon as servers are placed there, else by `settle`. For `deaf_s`
    nobody could be heard of: so much longer a host may be silent.
    """

    def __init__(
        self,
        connection: Connection,
        now: float,
        settings: ServerSettings,
        *,
        deaf_s: float = 0.0,
        claims_first: bool = False,
    ) -> None:
        self._connection = connection
        self._now = now
        self._seen_after = now - settings.host_timeout_s - deaf_s
        self._settings = settings
        self._claims_first = claims_first
        self._groups: dict[str, GroupRule] = {}
        self.hosts: dict[str, HostPicture] = {}

    async def place(self, drafts: Sequence[NewServer]) -> dict[str, str]:
        """Server ids to host ids, for all that fit. Raises Stale if hosts change all the time.

        Of hosts only as many are read as there are servers, unless these name hosts or groups; all of them for those
        that find no place there. Three queries; what is claimed first costs a statement for hosts that give the same,
        and that again for what others were faster with.
        """
        self._groups = await group_store.read_rules(
            self._connection, {draft.server_group_id for draft in drafts if draft.server_group_id}
        )
        placed: dict[str, str] = {}
        left = list(drafts)
        all_seen = False
        for _ in range(_ROUNDS):
            requests = [self._request(draft) for draft in left]
            pictures, all_seen = await self._pictures([] if all_seen else searches(requests))
            if not self._claims_first:
                pictures = _less(pictures, _by_host(drafts, placed))
            planned = place(pictures, requests, self._settings.strategy)
            mine = [draft for draft in left if draft.id in planned]
            full = await self._claim_all(mine, planned) if self._claims_first else set()
            placed |= {server_id: host_id for server_id, host_id in planned.items() if host_id not in full}
            left = [draft for draft in left if planned.get(draft.id) in (full if all_seen else {*full, None})]
            if not left:
                return placed
            all_seen = len(mine) < len(requests)
        raise Stale("Hosts' capacity changes faster than servers can be placed")

    async def refusals(self, drafts: Sequence[NewServer]) -> dict[str, Refusal]:
        """Why these servers, which `place` placed nowhere, have no host. A query per zone or host that they name."""
        rooms: dict[tuple[str | None, str | None], Room] = {}
        found = {}
        for draft in drafts:
            request = self._request(draft)
            where = (request.availability_zone, request.hostname)
            if where not in rooms:
                zone, hostname = where
                rooms[where] = await read_room(
                    self._connection, seen_after=self._seen_after, availability_zone=zone, hostname=hostname
                )
            found[draft.id] = refusal(request, rooms[where])
        return found

    async def release(self, drafts: Collection[NewServer], placed: Mapping[str, str]) -> None:
        """Give the claims of these servers back, if there are any. One statement for hosts that get the same."""
        if self._claims_first:
            await host_store.release(self._connection, _by_host(drafts, placed))

    async def settle(self, drafts: Collection[NewServer], placed: Mapping[str, str]) -> Mapping[str, int]:
        """Claim what is not yet claimed for these servers, and return each host's number for what it will hear of them.

        Raises Stale if a host has not that much left. One statement for hosts that give the same.
        """
        shares = _by_host(drafts, placed)
        if self._claims_first:
            return await outbox_store.raise_seqs(self._connection, shares.keys(), self._now)
        seqs = await host_store.claim_and_raise(self._connection, shares, self._now)
        if len(seqs) < len(shares):
            raise Stale("Others were faster with what hosts had left")
        return seqs

    async def close_groups(self, group_ids: Collection[str]) -> None:
        """Note that members of these groups were placed. Raises Stale if another placed members meanwhile."""
        await group_store.raise_generations(self._connection, [self._groups[group_id] for group_id in group_ids])

    async def _pictures(self, wanted: Sequence[Search]) -> tuple[list[HostPicture], bool]:
        """The hosts that are looked for (none: all), and whether no other could take any of the servers."""
        if not wanted:
            found = [await host_store.read_pictures(self._connection, seen_after=self._seen_after)]
        else:
            found = [
                await host_store.search(self._connection, one, self._settings.strategy, seen_after=self._seen_after)
                for one in wanted
            ]
        pictures = {picture.id: picture for pictures in found for picture in pictures}
        self.hosts |= pictures
        return list(pictures.values()), all(len(some) < one.count for some, one in zip(found, wanted, strict=False))

    def _request(self, draft: NewServer) -> Request:
        return Request(
            server_id=draft.id,
            demand=demand(draft),
            availability_zone=draft.availability_zone or self._settings.default_availability_zone,
            hostname=draft.wanted_hostname,
            group=self._groups.get(draft.server_group_id or ""),
        )

    async def _claim_all(self, drafts: Sequence[NewServer], planned: Mapping[str, str]) -> set[str]:
        """Claim for these servers; returns the hosts that have not that much left."""
        shares = _by_host(drafts, planned)
        full = shares.keys() - await host_store.claim(self._connection, shares)
        for draft in drafts:
            if draft.server_group_id in self._groups and planned[draft.id] not in full:
                members = self._groups[draft.server_group_id].members
                members[planned[draft.id]] = members.get(planned[draft.id], 0) + 1
        return full


def _less(pictures: Sequence[HostPicture], taken: Mapping[str, tuple[Demand, int]]) -> list[HostPicture]:
    """The hosts without what is taken of them, but not yet claimed."""
    none = (Demand(), 0)
    return [replace(picture, free=picture.free.minus(taken.get(picture.id, none)[0])) for picture in pictures]


def _by_host(drafts: Collection[NewServer], placed: Mapping[str, str]) -> dict[str, tuple[Demand, int]]:
    totals: defaultdict[str, tuple[Demand, int]] = defaultdict(lambda: (Demand(), 0))
    for draft in drafts:
        if draft.id in placed:
            total, count = totals[placed[draft.id]]
            totals[placed[draft.id]] = (total.plus(demand(draft)), count + 1)
    return totals

"""How many of the servers that requests ask for their projects' quotas allow, and their users' parts of them.

As with Nova, a request says how many it wants at most and at least; it gets as many as fit, or is refused. One request
never fails because of another that came with it: they are taken in order.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from muster.base.errors import Forbidden, MusterError
from muster.domain.quotas import Ask, Refusal, Share
from muster.domain.server_shares import ask_of
from muster.domain.servers import NewServer
from muster.services.port_work import PortWork
from muster.services.quotas import Quotas
from muster.services.server_groups import Joining, refuse_joining


class Wanted(Struct, frozen=True):
    """The servers of one request, all alike; `least` of them are better than none."""

    drafts: tuple[NewServer, ...]
    least: int


async def admit(
    work: PortWork, quotas: Quotas, requests: Sequence[Wanted]
) -> list[tuple[NewServer, ...] | MusterError]:
    """The servers that each request gets, counted as in use, or why it gets none (Forbidden).

    The ports they will have are looked at but not counted: whoever makes them does, by the same figures. Two queries,
    two more for members of groups.
    """
    outcomes = await work.tally.admit_shares([_share(request) for request in requests])
    kept = {
        index: request.drafts[:n] for index, request in enumerate(requests) if isinstance(n := outcomes[index], int)
    }
    crowded = await refuse_joining(
        work.connection,
        quotas,
        {
            index: Joining(drafts[0].project_id, drafts[0].user_id, group_id, len(drafts))
            for index, drafts in kept.items()
            if (group_id := drafts[0].server_group_id)
        },
    )
    work.tally.give_back(_ports_of(drafts) for drafts in kept.values())
    work.tally.give_back(ask_of(kept[index]) for index in crowded)
    refused: Mapping[int, MusterError] = crowded | {
        index: _refusal(outcome, requests[index])
        for index, outcome in enumerate(outcomes)
        if isinstance(outcome, Refusal)
    }
    return [
        refused[index] if index in refused else _named(kept[index], request) for index, request in enumerate(requests)
    ]


def _share(request: Wanted) -> Share:
    first = request.drafts[0]
    each = {**ask_of([first]).amounts, **_ports_of([first]).amounts}
    return Share(first.project_id, each, most=len(request.drafts), least=request.least, user_id=first.user_id)


def _ports_of(drafts: Sequence[NewServer]) -> Ask:
    made = sum(not nic.port_id for draft in drafts for nic in draft.nics)
    return Ask(drafts[0].project_id, {"port": made})


def _named(drafts: tuple[NewServer, ...], request: Wanted) -> tuple[NewServer, ...]:
    """The servers; one that is left alone of many has the plain name, as Nova names only several by number."""
    if len(drafts) == 1 < len(request.drafts):
        [only] = drafts
        return (replace(only, name=only.name.removesuffix("-1"), hostname=only.hostname.removesuffix("-1")),)
    return drafts


def _refusal(refusal: Refusal, request: Wanted) -> Forbidden:
    if refusal.resource == "port":
        return Forbidden("Maximum number of ports exceeded", code="compute.quota")
    most = len(request.drafts)
    asked = f"{request.least}-{most}" if refusal.resource == "instances" and request.least < most else refusal.asked
    return Forbidden(
        f"Quota exceeded for {refusal.resource}: Requested {asked}, but already used "
        f"{refusal.in_use} of {refusal.limit} {refusal.resource}",
        code="compute.quota",
    )

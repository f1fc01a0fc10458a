"""Quotas: the limits' defaults, and which requests of a batch fit within them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

UNLIMITED = -1

# Stands in the place of a project's id for the limits of projects that have none of their own.
EVERYBODY = "*"

# Nova's and Neutron's own defaults.
COMPUTE_DEFAULTS: Mapping[str, int] = {
    "instances": 10,
    "cores": 20,
    "ram": 51_200,
    "metadata_items": 128,
    "key_pairs": 100,
    "server_groups": 10,
    "server_group_members": 10,
    "injected_files": 5,
    "injected_file_content_bytes": 10_240,
    "injected_file_path_bytes": 255,
}
# What Nova limited when it did networks itself: kept and shown in old microversions, limiting nothing.
OLD_NETWORK_DEFAULTS: Mapping[str, int] = dict.fromkeys(
    ("fixed_ips", "floating_ips", "security_groups", "security_group_rules"), UNLIMITED
)
NETWORK_DEFAULTS: Mapping[str, int] = {
    "network": 100,
    "subnet": 100,
    "port": 500,
    "security_group": 10,
    "security_group_rule": 100,
}


class Ask(Struct, frozen=True):
    """What one request takes of a project's quotas."""

    project_id: str
    amounts: Mapping[str, int]


class Share(Struct, frozen=True):
    """What a request takes that wants between `least` and `most` of something, each of which takes `each`."""

    project_id: str
    each: Mapping[str, int]
    most: int
    least: int


class Refusal(Struct, frozen=True):
    """Why a request does not fit: the first resource that is short."""

    resource: str
    asked: int
    in_use: int
    limit: int


def totals(asks: Iterable[Ask]) -> dict[tuple[str, str], int]:
    """What these requests take together, by (project, resource)."""
    taken: defaultdict[tuple[str, str], int] = defaultdict(int)
    for ask in asks:
        for resource, amount in ask.amounts.items():
            taken[ask.project_id, resource] += amount
    return dict(taken)


def admit(
    asks: Sequence[Ask], in_use: Mapping[tuple[str, str], int], limits: Mapping[tuple[str, str], int]
) -> list[Refusal | None]:
    """Take the requests in order and say which do not fit any more; a smaller one behind a refused one may still fit.

    `in_use` is without any of the asks; `limits` holds (project, resource) to limit, UNLIMITED or missing for none.
    """
    used = dict(in_use)
    outcomes: list[Refusal | None] = []
    for ask in asks:
        refusal = _refusal(ask, used, limits)
        outcomes.append(refusal)
        if refusal is None:
            for resource, amount in ask.amounts.items():
                key = (ask.project_id, resource)
                used[key] = used.get(key, 0) + amount
    return outcomes


def admit_shares(
    shares: Sequence[Share], in_use: Mapping[tuple[str, str], int], limits: Mapping[tuple[str, str], int]
) -> list[int | Refusal]:
    """Take the requests in order and say how many each gets: as many as fit, if that is enough for it.

    `in_use` is without any of them; `limits` as for `admit`.
    """
    used = dict(in_use)
    outcomes: list[int | Refusal] = []
    for share in shares:
        count = _fitting(share, used, limits)
        if count < max(1, share.least):
            whole = {resource: amount * share.most for resource, amount in share.each.items()}
            outcomes.append(_refusal(Ask(share.project_id, whole), used, limits) or Refusal("", share.most, 0, 0))
            continue
        outcomes.append(count)
        for resource, amount in share.each.items():
            key = (share.project_id, resource)
            used[key] = used.get(key, 0) + amount * count
    return outcomes


def _fitting(share: Share, used: Mapping[tuple[str, str], int], limits: Mapping[tuple[str, str], int]) -> int:
    count = share.most
    for resource, amount in share.each.items():
        limit = limits.get((share.project_id, resource), UNLIMITED)
        if limit != UNLIMITED and amount > 0:
            count = min(count, (limit - used.get((share.project_id, resource), 0)) // amount)
    return count


def _refusal(ask: Ask, used: Mapping[tuple[str, str], int], limits: Mapping[tuple[str, str], int]) -> Refusal | None:
    for resource, amount in ask.amounts.items():
        key = (ask.project_id, resource)
        limit = limits.get(key, UNLIMITED)
        if limit != UNLIMITED and amount > 0 and used.get(key, 0) + amount > limit:
            return Refusal(resource, amount, used.get(key, 0), limit)
    return None

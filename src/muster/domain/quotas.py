"""Quotas: the limits' defaults, and which requests of a batch fit within them.

A request takes of its project's quota and, where single users of a project are limited as well, of its user's part.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

UNLIMITED = -1

# Stands in the place of a project's id for the limits of projects that have none of their own.
EVERYBODY = "*"

# What is counted, and limited: (project, resource), or what one user has of it: (project, user, resource).
Key = tuple[str, str] | tuple[str, str, str]

METADATA_ITEMS = "metadata_items"
INJECTED_FILES = "injected_files"
INJECTED_FILE_BYTES = "injected_file_content_bytes"
INJECTED_PATH_BYTES = "injected_file_path_bytes"
# Limits of what one request holds, looked at before it is taken.
OF_ONE_REQUEST = (METADATA_ITEMS, INJECTED_FILES, INJECTED_FILE_BYTES, INJECTED_PATH_BYTES)

# Nova's and Neutron's own defaults.
COMPUTE_DEFAULTS: Mapping[str, int] = {
    "instances": 10,
    "cores": 20,
    "ram": 51_200,
    METADATA_ITEMS: 128,
    "key_pairs": 100,
    "server_groups": 10,
    "server_group_members": 10,
    INJECTED_FILES: 5,
    INJECTED_FILE_BYTES: 10_240,
    INJECTED_PATH_BYTES: 255,
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
# Of these a user's part is counted, as with Nova; other limits of users are looked at where they matter.
COUNTED_BY_USER = frozenset({"instances", "cores", "ram", "server_groups"})


class Ask(Struct, frozen=True):
    """What one request takes of a project's quotas; `user_id` is whose part of them it is, if it is anybody's."""

    project_id: str
    amounts: Mapping[str, int]
    user_id: str = ""


class Share(Struct, frozen=True):
    """What a request takes that wants between `least` and `most` of something, each of which takes `each`."""

    project_id: str
    each: Mapping[str, int]
    most: int
    least: int
    user_id: str = ""


class Refusal(Struct, frozen=True):
    """Why a request does not fit: the first resource that is short."""

    resource: str
    asked: int
    in_use: int
    limit: int


def totals(asks: Iterable[Ask]) -> dict[Key, int]:
    """What these requests take together."""
    taken: defaultdict[Key, int] = defaultdict(int)
    for ask in asks:
        for resource, amount in ask.amounts.items():
            for key in _keys(ask, resource):
                taken[key] += amount
    return dict(taken)


def limit_of_user(limits: Mapping[Key, int], project_id: str, user_id: str, resource: str) -> int:
    """What a user alone may have: the lower of the project's limit and the user's own, if there are any."""
    both = (limits.get((project_id, resource), UNLIMITED), limits.get((project_id, user_id, resource), UNLIMITED))
    return min((limit for limit in both if limit != UNLIMITED), default=UNLIMITED)


def admit(asks: Sequence[Ask], in_use: Mapping[Key, int], limits: Mapping[Key, int]) -> list[Refusal | None]:
    """Take the requests in order and say which do not fit any more; a smaller one behind a refused one may still fit.

    `in_use` is without any of the asks; a limit that is UNLIMITED or missing is none.
    """
    used = dict(in_use)
    outcomes: list[Refusal | None] = []
    for ask in asks:
        refusal = _refusal(ask, used, limits)
        outcomes.append(refusal)
        if refusal is None:
            _take(used, ask, ask.amounts)
    return outcomes


def admit_shares(shares: Sequence[Share], in_use: Mapping[Key, int], limits: Mapping[Key, int]) -> list[int | Refusal]:
    """Take the requests in order and say how many each gets: as many as fit, if that is enough for it.

    `in_use` is without any of them; `limits` as for `admit`.
    """
    used = dict(in_use)
    outcomes: list[int | Refusal] = []
    for share in shares:
        count = _fitting(share, used, limits)
        if count < max(1, share.least):
            whole = {resource: amount * share.most for resource, amount in share.each.items()}
            refusal = _refusal(Ask(share.project_id, whole, share.user_id), used, limits)
            outcomes.append(refusal or Refusal("", share.most, 0, 0))
            continue
        outcomes.append(count)
        _take(used, share, {resource: amount * count for resource, amount in share.each.items()})
    return outcomes


def _keys(one: Ask | Share, resource: str) -> tuple[Key, ...]:
    """Whose figures count what this request takes of the resource."""
    of_project = (one.project_id, resource)
    if one.user_id and resource in COUNTED_BY_USER:
        return of_project, (one.project_id, one.user_id, resource)
    return (of_project,)


def _take(used: dict[Key, int], one: Ask | Share, amounts: Mapping[str, int]) -> None:
    for resource, amount in amounts.items():
        for key in _keys(one, resource):
            used[key] = used.get(key, 0) + amount


def _fitting(share: Share, used: Mapping[Key, int], limits: Mapping[Key, int]) -> int:
    count = share.most
    for resource, amount in share.each.items():
        for key in _keys(share, resource):
            limit = limits.get(key, UNLIMITED)
            if limit != UNLIMITED and amount > 0:
                count = min(count, (limit - used.get(key, 0)) // amount)
    return count


def _refusal(ask: Ask, used: Mapping[Key, int], limits: Mapping[Key, int]) -> Refusal | None:
    for resource, amount in ask.amounts.items():
        for key in _keys(ask, resource):
            limit = limits.get(key, UNLIMITED)
            if limit != UNLIMITED and amount > 0 and used.get(key, 0) + amount > limit:
                return Refusal(resource, amount, used.get(key, 0), limit)
    return None

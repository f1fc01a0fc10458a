"""Roles, and which imply which."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from msgspec import Struct

from muster.base.errors import Invalid

# The attributes by which lists of them are filtered.
ROLE_FILTERS = ("id", "name", "domain_id")


class Role(Struct, frozen=True, kw_only=True):
    """A role. One with a `domain_id` never shows in a token: it only stands for the roles that it implies."""

    id: str
    name: str
    domain_id: str | None = None
    description: str | None = None
    options: Mapping[str, Any] = {}
    extra: Mapping[str, Any] = {}


class Implication(Struct, frozen=True):
    """Whoever has the prior role has the implied one."""

    prior_id: str
    implied_id: str


def implied_by(role_ids: Iterable[str], implications: Collection[Implication]) -> dict[str, str | None]:
    """All roles that come with these: each with the role that implied it, None for those given."""
    found: dict[str, str | None] = dict.fromkeys(role_ids)
    waiting = list(found)
    while waiting:
        prior = waiting.pop()
        for implication in implications:
            if implication.prior_id == prior and implication.implied_id not in found:
                found[implication.implied_id] = prior
                waiting.append(implication.implied_id)
    return found


def check_implication(new: Implication, implications: Collection[Implication]) -> None:
    """Raise Invalid if a role came to imply itself."""
    if new.prior_id in implied_by([new.implied_id], implications):
        raise Invalid("A role must not imply itself")

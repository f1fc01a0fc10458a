"""What the limits of a project, and of single users in it, may be set to beside each other. Pure.

As with Nova (`get_settable_quotas`), but where users' limits were forced beyond the project's: then nothing is left for
others. Nova takes the number below zero for no limit.
"""

from collections.abc import Mapping

from msgspec import Struct

from muster.base.errors import Invalid
from muster.domain.quotas import UNLIMITED

# What limits the project alone: set for a user, it is set for the project.
OF_PROJECT = frozenset({"fixed_ips", "floating_ips"})


class Settable(Struct, frozen=True):
    """The lowest and the highest limit that may be set without force."""

    least: int
    most: int = UNLIMITED


def granted(limits: Mapping[tuple[str, str], int], resource: str, *, but: str = "") -> int:
    """What the limits of users but one, by (user, resource), come to together; one that is UNLIMITED is nothing."""
    return sum(max(0, limit) for (user_id, name), limit in limits.items() if name == resource and user_id != but)


def of_user(limit: int, others: int, in_use: int) -> Settable:
    """For a user of a project with this limit, of which `others` is granted to other users."""
    return Settable(in_use, UNLIMITED if limit == UNLIMITED else max(0, limit - others))


def of_project(limit: int, users: int, in_use: int) -> Settable:
    """For a project with this limit, of which `users` is granted to single users."""
    return Settable(in_use if limit == UNLIMITED else max(users, in_use))


def check(name: str, limit: int, settable: Settable) -> None:
    """Raises Invalid for a limit that may not be set."""
    if UNLIMITED != limit < settable.least:
        raise Invalid(
            f"Quota limit {limit} for {name} must be greater than or equal to already used and "
            f"reserved {settable.least}.",
            code="compute.quota_in_use",
        )
    if settable.most != UNLIMITED and not 0 <= limit <= settable.most:
        raise Invalid(
            f"Quota limit {limit} for {name} must be less than or equal to {settable.most}.",
            code="compute.quota_beyond",
        )

"""Why no host takes a server: in words for its user, with figures for operators. Pure.

What is told is what the hosts have left once all is decided; whoever else takes of it meanwhile is not known, so that
words without a reason are possible, and a wrong reason is not.
"""

from collections.abc import Sequence

from msgspec import Struct

from muster.domain.placement import Demand, Request

_UNKNOWN = "There are not enough hosts available."


class Room(Struct, frozen=True):
    """How many hosts may be given servers, and of each kind of thing the most that one of them has left."""

    hosts: int
    most: Demand


class Refusal(Struct, frozen=True):
    """`details` are for operators."""

    message: str
    details: str


def refusal(request: Request, room: Room) -> Refusal:
    """Why none of the hosts in `room`, all that are in the request's zone or have its host's name, takes it."""
    wanted, most = request.demand, room.most
    figures = (
        ("memory", wanted.ram_mib, most.ram_mib, "MiB"),
        ("processors", wanted.vcpus, most.vcpus, ""),
        ("disk", wanted.disk_gib, most.disk_gib, "GiB"),
    )
    lacking = [name for name, asked, left, _ in figures if asked > left]
    if not room.hosts:
        reason = _nobody(request)
    elif lacking:
        reason = f"No host has enough {_listed(lacking)} left for this flavor."
    elif request.group is not None:
        reason = f"No host has room that the policy {request.group.policy} of its server group allows."
    else:
        reason = _UNKNOWN
    asked = ", ".join(f"{name} {asked} of {left} {unit}".rstrip() for name, asked, left, unit in figures)
    details = f"Hosts that may be given it: {room.hosts}. Asked, of the most that one of them has left: {asked}."
    return Refusal(f"No valid host was found. {reason}", details)


def _nobody(request: Request) -> str:
    if request.hostname is not None:
        return f"The host {request.hostname} is down, disabled or in another zone."
    if request.availability_zone is not None:
        return f"The availability zone {request.availability_zone} has no host that is up and enabled."
    return "No host is up and enabled."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

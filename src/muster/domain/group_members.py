"""Who is in a security group: the addresses of its ports, and how they change. Pure.

A group's members are counted, since two ports may have the same address (on networks of their own, or as an allowed
address pair): an address is gone only when the last port that has it is.
"""

from collections import Counter
from collections.abc import Iterable
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from muster.domain.ports import Port
from muster.domain.specs import GroupMembers, NetworkSpec, SecurityGroupSpec

Whole = TypeVar("Whole", SecurityGroupSpec, NetworkSpec)


class Member(Struct, frozen=True):
    """A port as its groups see it: addresses, and CIDRs where an address pair names one."""

    group_ids: tuple[str, ...]
    addresses: tuple[str, ...]


class MemberChange(Struct, frozen=True, kw_only=True):
    """How one group changes; an address stands as often as it joins or leaves."""

    joined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()


def remotes_of(group: SecurityGroupSpec) -> set[str]:
    """The groups that a group's rules name as remote."""
    return {rule.remote_group_id for rule in group.rules if rule.remote_group_id}


def member_of(port: Port) -> Member:
    """What a port is to its groups."""
    fixed = tuple(ip.ip_address for ip in port.fixed_ips)
    return Member(port.security_group_ids, fixed + tuple(pair.ip_address for pair in port.allowed_address_pairs))


def member_changes(before: Iterable[Member], after: Iterable[Member]) -> dict[str, MemberChange]:
    """The groups that change when these members become those, and how."""
    old, new = _by_group(before), _by_group(after)
    changes = {}
    for group_id in sorted(old.keys() | new.keys()):
        was, is_now = old.get(group_id, Counter()), new.get(group_id, Counter())
        joined, left = is_now - was, was - is_now
        if joined or left:
            changes[group_id] = MemberChange(
                joined=tuple(sorted(joined.elements())), left=tuple(sorted(left.elements()))
            )
    return changes


def with_members(group: Whole, change: GroupMembers) -> Whole:
    """The group (or network) after a change that continues what is known of it."""
    members = Counter(group.members)
    members.update(change.joined)
    members.subtract(change.left)
    return replace(group, member_generation=change.generation, members=tuple(members.elements()))


def _by_group(members: Iterable[Member]) -> dict[str, Counter[str]]:
    groups: dict[str, Counter[str]] = {}
    for member in members:
        for group_id in member.group_ids:
            groups.setdefault(group_id, Counter()).update(member.addresses)
    return groups

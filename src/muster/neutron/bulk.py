"""Ports made in bulk by one request: Neutron asks for their addresses one by one; here they are claimed together.

Neutron announces every port (BEFORE_CREATE) before it asks for the first address, so it is known how many more will be
asked for. The first claims for those that follow. What was claimed so belongs to the request's context. What is left
over is given back when the first port stands (AFTER_CREATE), when one cannot have an address, or when addresses are
released because the request fails; if its process ends, by the sweep.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from neutron_lib.callbacks import events, registry, resources
from neutron_lib.constants import ATTR_NOT_SPECIFIED

from muster.neutron.sessions import Claim

AT_ONCE = 100

_KEY = "_muster_ipam_bulk"


class Bulk:
    """What one request has coming. Used by the thread that serves the request, and by no other."""

    def __init__(self) -> None:
        self._announced: Counter[str] = Counter()
        self._begun: dict[str, set[str]] = defaultdict(set)
        self._reserve: dict[str, list[Claim]] = defaultdict(list)

    def announce(self, network_id: str) -> None:
        self._announced[network_id] += 1

    def begin(self, network_id: str, port_id: str) -> int:
        """How many ports of the network need addresses, this one among them. One may ask in several subnets."""
        begun = self._begun[network_id]
        begun.add(port_id)
        return max(1, self._announced[network_id] - len(begun) + 1)

    def take(self, subnet_id: str, wanted: int, claim: Callable[[int], Claim]) -> Claim:
        """One address, from what is in reserve or, if there is none, of `claim(how many)`."""
        reserve = self._reserve[subnet_id]
        if not reserve:
            reserve.extend(reversed(claim(min(wanted, AT_ONCE)).singly()))
        return reserve.pop()

    def take_named(self, subnet_id: str, ip_address: str) -> Claim | None:
        """This very address, if it is in reserve: one of the request's ports names what was claimed for another."""
        reserve = self._reserve[subnet_id]
        found = next((one for one in reserve if one.ip_addresses == (ip_address,)), None)
        if found is not None:
            reserve.remove(found)
        return found

    def end(self) -> Sequence[Claim]:
        """Nothing more comes; what is left over."""
        left = [claim for claims in self._reserve.values() for claim in claims]
        for memory in (self._announced, self._begun, self._reserve):
            memory.clear()
        return left


def of(context: Any) -> Bulk | None:
    """What was announced for a request, if anything."""
    return getattr(context, _KEY, None)


def watch(ended: Callable[[Any], None]) -> None:
    """Take notice of what Neutron announces from now on; `ended(context)` is called when a port stands."""

    def before_create(_resource: str, _event: str, _trigger: Any, payload: Any) -> None:
        port = payload.latest_state
        if port.get("fixed_ips") is ATTR_NOT_SPECIFIED:
            if of(payload.context) is None:
                setattr(payload.context, _KEY, Bulk())
            getattr(payload.context, _KEY).announce(port["network_id"])

    def after_create(_resource: str, _event: str, _trigger: Any, payload: Any) -> None:
        ended(payload.context)

    registry.subscribe(before_create, resources.PORT, events.BEFORE_CREATE)
    registry.subscribe(after_create, resources.PORT, events.AFTER_CREATE)

"""The steps of a server's life, stamped as they are done and kept with the server."""

from collections.abc import Mapping
from itertools import pairwise

# The order is the order of the pipeline; a bench chart stacks them in it.
ACCEPTED = "accepted"  # the API took the request
PLACED = "placed"  # a host was claimed and addresses given; committed
DISPATCHED = "dispatched"  # the message to the host was published
RECEIVED = "received"  # the host took it up
IMAGED = "imaged"  # its disk is there
PLUMBED = "plumbed"  # links and firewall rules stand
LEASABLE = "leasable"  # its DHCP entry is served
ADMITTED = "admitted"  # boot admission let it start
STARTED = "started"  # the hypervisor has it running
ACTIVE = "active"  # the control plane has written ACTIVE
DHCP = "dhcp"  # the guest asked for and got its lease

STEPS = (ACCEPTED, PLACED, DISPATCHED, RECEIVED, IMAGED, PLUMBED, LEASABLE, ADMITTED, STARTED, ACTIVE, DHCP)


def durations_s(timeline: Mapping[str, float]) -> dict[str, float]:
    """How long each step took: from the one before it that has a stamp. Clocks of two machines may disagree: never
    below 0."""
    stamped = [(step, timeline[step]) for step in STEPS if step in timeline]
    return {step: max(0.0, at - before) for (_, before), (step, at) in pairwise(stamped)}

"""Decide what has to be done so that a host becomes as it should be: pure, from what should be and what is seen.

Level-triggered: nothing is decided from the order of events, only from the newest spec and the newest observation, so
that doing what is decided, and deciding again, ends with nothing to do, whatever was lost or interrupted before.
`STEPS_IN_ORDER` is the one place where the order of a host's steps stands.
"""

from enum import StrEnum

from msgspec import Struct

from muster.domain.reports import GuestState
from muster.domain.specs import Power, ServerSpec
from muster.host.ports import Guest


class Action(StrEnum):
    """What a server needs."""

    REMOVE = "remove"
    KEEP = "keep"  # nobody knows it: it is shut down, and its disk is put aside
    STOP = "stop"
    RESTART = "restart"
    REBUILD = "rebuild"
    CREATE = "create"
    START = "start"
    PLUMB = "plumb"  # it is as it should be, but its ports are not
    REPLUG = "replug"  # it runs, and its network cards are not those of its ports
    NOTHING = "nothing"


class Step(StrEnum):
    """One thing that is done for a batch of servers."""

    FETCH = "fetch"  # the image of the disk that takes another's place
    STOP = "stop"
    UNPLUG = "unplug"
    KEEP = "keep"  # its disk is put aside
    DISCARD = "discard"  # the guest with its disk
    IMAGE = "image"
    LINKS = "links"
    FIREWALL = "firewall"
    DHCP = "dhcp"
    REPLUG = "replug"  # the network cards of a guest that runs
    RELEASE = "release"  # ports that it had, and that its cards no longer use
    ADMISSION = "admission"
    START = "start"


# The order of all steps. The disk is the first thing made and the last removed: where no disk is seen, nothing is left.
STEPS_IN_ORDER = tuple(Step)

_BRING_UP = frozenset({Step.IMAGE, Step.LINKS, Step.FIREWALL, Step.DHCP, Step.ADMISSION, Step.START})

# Which of them an action takes.
STEPS_OF: dict[Action, frozenset[Step]] = {
    Action.REMOVE: frozenset({Step.STOP, Step.UNPLUG, Step.DISCARD}),
    Action.KEEP: frozenset({Step.STOP, Step.UNPLUG, Step.KEEP}),
    Action.STOP: frozenset({Step.STOP}),
    Action.RESTART: _BRING_UP | {Step.STOP},
    Action.REBUILD: _BRING_UP | {Step.FETCH, Step.STOP, Step.DISCARD},
    Action.CREATE: _BRING_UP,
    Action.START: _BRING_UP,
    Action.PLUMB: frozenset({Step.LINKS, Step.FIREWALL, Step.DHCP}),
    Action.REPLUG: frozenset({Step.REPLUG, Step.RELEASE}),
    Action.NOTHING: frozenset(),
}


class View(Struct, frozen=True, kw_only=True):
    """One server as the agent knows it.

    `spec` None: it is not among what the host should have. `unknown`: and the database knows nothing of it.
    `plumbed`: its ports stand as the spec has them;
    `plugged`: some port of it may stand; `fitted`: no other port of it does, nor does a guest that runs have cards for
    any but these. `halted_at` is the generation that was in force when the guest went down by
    itself, `failed_at` the one that could not be brought about.
    """

    server_id: str
    spec: ServerSpec | None
    guest: Guest | None
    unknown: bool = False
    plumbed: bool = False
    plugged: bool = False
    fitted: bool = False
    halted_at: int | None = None
    failed_at: int | None = None


def decide(view: View) -> Action:
    """What this server needs now.

    A guest that went down by itself stays down until a newer spec asks for it: the control plane, told of it, decides.
    What could not be done is not tried again until a newer spec asks. Removal wins over everything.
    """
    spec, guest = view.spec, view.guest
    if spec is None and guest is not None and view.unknown:
        return Action.KEEP
    if spec is None or spec.power is Power.ABSENT:
        return Action.REMOVE if guest is not None or view.plugged else Action.NOTHING
    if view.failed_at == spec.generation:
        return Action.NOTHING
    if guest is None:
        return Action.CREATE
    if guest.disk_nonce < spec.disk_nonce:
        return Action.REBUILD
    if guest.state is GuestState.RUNNING:
        return _decide_running(view, spec, guest)
    if spec.power is Power.RUNNING and not _stays_halted(view, spec, guest):
        return Action.START
    return Action.NOTHING if view.plumbed and view.fitted else Action.PLUMB


def _decide_running(view: View, spec: ServerSpec, guest: Guest) -> Action:
    if spec.power is Power.STOPPED:
        return Action.STOP
    if guest.boot_nonce < spec.boot_nonce:
        return Action.RESTART
    if not view.plumbed:
        return Action.PLUMB
    return Action.NOTHING if view.fitted else Action.REPLUG


def _stays_halted(view: View, spec: ServerSpec, guest: Guest) -> bool:
    return view.halted_at == spec.generation and guest.boot_nonce >= spec.boot_nonce

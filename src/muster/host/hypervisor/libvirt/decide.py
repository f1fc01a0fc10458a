"""What a start has to do, decided from what is there. Pure."""

from enum import Enum, auto

from muster.base.errors import Conflict, Invalid, MusterError, NotFound
from muster.domain.reports import Fault
from muster.domain.specs import ServerSpec
from muster.host.hypervisor.libvirt.disks import is_prepared
from muster.host.hypervisor.libvirt.folder import Record


class Step(Enum):
    """How a guest gets to run with the asked nonce."""

    NOTHING = auto()
    START = auto()
    RESTART = auto()
    PREPARE_FIRST = auto()


def next_step(server: ServerSpec, record: Record | None, *, runs: bool) -> Step:
    """The step for a server whose folder has this record and whose domain runs or not."""
    if not is_prepared(record, server) or record is None:
        return Step.PREPARE_FIRST
    if not runs:
        return Step.START
    return Step.RESTART if record.boot_nonce < server.boot_nonce else Step.NOTHING


def fault_of(error: MusterError) -> Fault:
    """What users and operators are told of an item's error."""
    if isinstance(error, Invalid):
        return Fault(400, error.message)
    if isinstance(error, NotFound):
        return Fault(404, error.message)
    if isinstance(error, Conflict):
        return Fault(409, "The server's state on its host does not allow it", error.message)
    return Fault(500, "The hypervisor could not do it", error.message)

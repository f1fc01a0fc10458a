"""The messages between control plane and hosts. They only wake: losing one costs time, never a server.

Both directions are numbered per host. What a host should have has `desired_seq`, a counter in the host's row that each
change of one of its servers raises; what a host reports has `report_seq`, counted by the agent. A receiver that sees
a gap, or a heartbeat that shows it is behind, asks for everything. So nothing is acknowledged one by one and periodic
work is constant per host, however many servers it has.

A database may be set back: restored, or taken over by a standby that lagged. Then hosts know of more than it does, as a
heartbeat shows, and the host's `desired_seq` goes on in a new epoch: whatever was told in an older one is forgotten.
A guest's disk is removed only by a database that knows its server: by an order, or because it was deleted (Fates).
"""

from msgspec import Struct, msgpack

from muster.domain.diagnostics import Diagnostics
from muster.domain.reports import HostCapacity, ServerReport
from muster.domain.specs import GroupMembers, NetworkSpec, SecurityGroupSpec, ServerSpec


class Desired(Struct, frozen=True, kw_only=True, tag="desired"):
    """To a host: what changed in (`from_seq`, `to_seq`]. With `everything`, all that the host should have.

    `members` are changes to the members of groups that the host knows, or that come whole with this message; `peers`
    are changes to the members of networks, which are hosts.
    `nonce` is that of the Hello that this answers (0: none), so that an agent that has just started does not take a
    late answer to its predecessor for the present. `tickets` let the host fetch the servers' images, by image id.
    `report_seq` (with `everything`) is how far the host's reports have come: whatever it numbers lower counts as late.
    """

    host_id: str
    from_seq: int
    to_seq: int
    everything: bool = False
    nonce: int = 0
    report_seq: int = 0
    sent_at: float = 0.0  # its sender's clock, in Unix seconds
    servers: tuple[ServerSpec, ...] = ()
    networks: tuple[NetworkSpec, ...] = ()
    groups: tuple[SecurityGroupSpec, ...] = ()
    members: tuple[GroupMembers, ...] = ()
    peers: tuple[GroupMembers, ...] = ()
    tickets: dict[str, str] = {}


class ReportEverything(Struct, frozen=True, kw_only=True, tag="report-everything"):
    """To a host: the control plane missed a report; report all servers."""

    host_id: str


class ConsoleRequest(Struct, frozen=True, kw_only=True, tag="console"):
    """To a host: the last `n_lines` of a server's console (None: all), to be sent to topic `reply_to`."""

    host_id: str
    request_id: str
    reply_to: str
    server_id: str
    n_lines: int | None = None


class Fates(Struct, frozen=True, kw_only=True, tag="fates"):
    """To a host that asked about Strangers: servers that were deleted, and such as the database does not know of.

    One that is in neither should be on this host.
    """

    host_id: str
    ended: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class DiagnosticsRequest(Struct, frozen=True, kw_only=True, tag="diagnostics"):
    """To a host: what a server's guest takes of it, to be sent to topic `reply_to`."""

    host_id: str
    request_id: str
    reply_to: str
    server_id: str


class Hello(Struct, frozen=True, kw_only=True, tag="hello"):
    """From a host whose agent has started (or lost count): here I am, send everything.

    `firewall` says whether the host wants security groups: a simulated one does not. `report_seq` is the number after
    which this agent's reports begin.
    """

    host_id: str
    hostname: str
    hypervisor_type: str
    hypervisor_version: int
    capacity: HostCapacity
    availability_zone: str = "nova"
    host_ip: str = "127.0.0.1"
    firewall: bool = True
    cpu_info: str = ""
    nonce: int = 0
    report_seq: int = 0


class Beat(Struct, frozen=True, kw_only=True):
    """One host's sign of life: the newest numbers of both directions."""

    host_id: str
    desired_seq: int
    report_seq: int


class Heartbeat(Struct, frozen=True, kw_only=True, tag="heartbeat"):
    """From a process: all its hosts are alive. `sent_at` is its clock, in Unix seconds."""

    beats: tuple[Beat, ...]
    sent_at: float = 0.0


class Report(Struct, frozen=True, kw_only=True, tag="report"):
    """From a host: what it observed, numbered (`from_seq`, `to_seq`]. With `everything`, all that it has."""

    host_id: str
    from_seq: int
    to_seq: int
    everything: bool = False
    servers: tuple[ServerReport, ...] = ()


class Reports(Struct, frozen=True, kw_only=True, tag="reports"):
    """From a process with several hosts: what they observed, in one message."""

    reports: tuple[Report, ...]


class Strangers(Struct, frozen=True, kw_only=True, tag="strangers"):
    """From a host: it has guests of these servers, of which nobody told it. What has become of them?"""

    host_id: str
    server_ids: tuple[str, ...]


class ConsoleReply(Struct, frozen=True, kw_only=True, tag="console-reply"):
    """From a host to the topic that a ConsoleRequest named. `error` None means that `output` is good."""

    request_id: str
    output: str = ""
    error: str | None = None


class DiagnosticsReply(Struct, frozen=True, kw_only=True, tag="diagnostics-reply"):
    """From a host to the topic that a DiagnosticsRequest named. Without `diagnostics`, `error` says why."""

    request_id: str
    diagnostics: Diagnostics | None = None
    error: str | None = None


ToHost = Desired | ReportEverything | ConsoleRequest | DiagnosticsRequest | Fates
ToControl = Hello | Heartbeat | Report | Reports | Strangers
Message = ToHost | ToControl | ConsoleReply | DiagnosticsReply

# The topic of what hosts say, which one control-plane worker at a time reads.
CONTROL_TOPIC = "control"

_EPOCH_BITS = 40  # of the 63 that a number in a database has: 10^12 changes of one host, then 8 million epochs
_EPOCH_SPAN_S = 600  # so many of them last until the year 2129


def epoch_of(desired_seq: int) -> int:
    """The epoch that the number belongs to."""
    return desired_seq >> _EPOCH_BITS


def next_epoch(desired_seq: int) -> int:
    """The first number of the epoch after this number's."""
    return (epoch_of(desired_seq) + 1) << _EPOCH_BITS


def epoch_of_time(now_s: float) -> int:
    """The first number of the epoch that belongs to a moment: higher than any begun at an earlier one, up to ten
    minutes; so also than those that a database which was set back has begun and forgotten."""
    return int(now_s // _EPOCH_SPAN_S) << _EPOCH_BITS


_encoder = msgpack.Encoder()
_decoder: msgpack.Decoder[Message] = msgpack.Decoder(Message)


def host_topic(host_id: str) -> str:
    """The topic that the host's agent reads."""
    return f"host.{host_id}"


def encode(message: Message) -> bytes:
    """A message as msgpack."""
    return _encoder.encode(message)


def decode(data: bytes) -> Message:
    """The message of these bytes. Raises msgspec.ValidationError for what no version of Muster sent."""
    return _decoder.decode(data)

"""What a run finds out: per server the moment of each step, and everything about the run. Also the schema of `--json`.

All moments (`*_at_s`) are seconds since the run's start on a monotonic clock. A moment that was not reached is None.
Invariant: the moments of one server never decrease in the order of `MOMENTS`.
"""

import msgspec

from muster.base.errors import Invalid
from muster.bench.options import Phase, ServersOptions
from muster.client.api import Traffic

SCHEMA = "muster.bench.servers/1"

# In the order in which they happen.
MOMENTS = (
    "requested_at_s",
    "accepted_at_s",
    "active_at_s",
    "pinged_at_s",
    "banner_at_s",
    "login_at_s",
    "ready_at_s",
    "delete_requested_at_s",
    "delete_accepted_at_s",
    "gone_at_s",
)


class ServerRecord(msgspec.Struct, kw_only=True):
    """One server. Written by the run alone, a value once the run has ended.

    `active_at_s` and `gone_at_s` are when a poll showed it: late by at most the poll before. `launched_at`, `created`
    and `updated` are the cloud's own words, in its clock. `failed_phase` and `fault` tell the first failure.
    """

    index: int
    name: str
    id: str | None = None
    address: str | None = None
    requested_at_s: float | None = None
    accepted_at_s: float | None = None
    active_at_s: float | None = None
    pinged_at_s: float | None = None
    banner_at_s: float | None = None
    login_at_s: float | None = None
    ready_at_s: float | None = None
    delete_requested_at_s: float | None = None
    delete_accepted_at_s: float | None = None
    gone_at_s: float | None = None
    failed_at_s: float | None = None
    failed_phase: Phase | None = None
    fault: str | None = None
    delete_fault: str | None = None
    launched_at: str | None = None
    created: str | None = None
    updated: str | None = None

    def fail(self, phase: Phase, reason: str, now_s: float) -> None:
        """Note a failure; the first one is what counts, a failed removal is noted beside it."""
        if phase is Phase.DELETE:
            self.delete_fault = reason
        if self.failed_phase is None:
            self.failed_phase, self.fault, self.failed_at_s = phase, reason, now_s


class Sample(msgspec.Struct, frozen=True):
    """The client's machine at one moment: CPU and the busiest disk, in percent of the time since the sample before."""

    at_s: float
    cpu_percent: float
    disk_percent: float


class Spread(msgspec.Struct, frozen=True):
    """How durations are spread, in seconds; percentiles by nearest rank."""

    min_s: float
    p50_s: float
    p90_s: float
    p99_s: float
    max_s: float


class Figure(msgspec.Struct, frozen=True):
    """One row of the table.

    `total` servers were to reach it, `ok` did; `spread` is None when none did. `per_s` is `ok` over the time from the
    first start to the last end. `quartile_p50_s`: the median of each quarter of the servers, by order of submission.
    """

    name: str
    total: int
    ok: int
    spread: Spread | None
    per_s: float | None
    quartile_p50_s: list[float | None]


class Fault(msgspec.Struct, frozen=True):
    """A distinct failure text (ids taken out), the phase it hit, and how many servers it hit."""

    phase: Phase
    text: str
    servers: int


class Leftover(msgspec.Struct, frozen=True):
    """Something the run made and could not remove, and why."""

    kind: str
    id: str
    reason: str


class Polling(msgspec.Struct, frozen=True):
    """How the servers' states were watched: a state is seen at most `mean_lag_s` late on average, `longest_lag_s` ever.

    The lag is from the start of one poll to the end of the next.
    """

    polls: int
    aborted: int
    mean_lag_s: float
    longest_lag_s: float


class Environment(msgspec.Struct, frozen=True):
    """What was measured, with the ids that the names led to."""

    cloud: str
    region: str | None
    compute_url: str
    image_id: str
    flavor_id: str
    network_id: str
    started_at: str
    client_cpus: int


class ServersResult(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run. `client_cpu_s` is this process and the ssh processes it started.

    `shared_addresses` are those that several servers were given: there must be none. `kept` is what `--keep` left.
    """

    schema: str = SCHEMA
    options: ServersOptions
    environment: Environment
    figures: list[Figure]
    faults: list[Fault]
    traffic: Traffic
    polling: Polling
    shared_addresses: list[str]
    leftovers: list[Leftover]
    kept: list[str]
    duration_s: float
    client_cpu_s: float
    samples: list[Sample]
    servers: list[ServerRecord]

    @property
    def ok(self) -> bool:
        """Whether every server went through every phase, nothing was tried twice, and nothing was left behind."""
        traffic = self.traffic
        clean = not (traffic.errors or traffic.retries or self.leftovers or self.shared_addresses)
        return clean and all(figure.ok == figure.total for figure in self.figures)


def to_json(result: ServersResult) -> bytes:
    """The result as JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n"


def from_json(data: bytes) -> ServersResult:
    """A result as `to_json` wrote it. Raises Invalid for anything else."""
    try:
        result = msgspec.json.decode(data, type=ServersResult)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Invalid(f"not a result of this benchmark: {error}") from error
    if result.schema != SCHEMA:
        raise Invalid(f"a result of schema {result.schema}, not {SCHEMA}")
    return result

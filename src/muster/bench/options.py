"""What a run of `muster bench servers` is asked to do."""

from enum import StrEnum

import msgspec

from muster.base.errors import Invalid

MAX_COUNT = 100_000


class Phase(StrEnum):
    """The phases of one server, in the order in which they happen."""

    CREATE = "create"
    PING = "ping"
    SSH = "ssh"
    DELETE = "delete"


class ServersOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Images, flavors, networks and security groups are named by name or id.

    concurrency   requests that create or delete a server, in flight at a time; None: all at once
    max_alive     servers that exist and are not ready yet, at a time; None: no limit
    rate_per_s    requests to create per second, whatever has become of those before (open loop); None: all at once
    rolling       each server is deleted as soon as it is ready or has failed; `max_alive` then counts all that exist
    image, flavor None: the only one there is; for flavors the smallest
    network       "auto": the only one that is not external
    availability_zone None: the cloud's choice
    security_group None: one with ICMP and ssh is made, if ping or ssh is measured
    key           make and register an ed25519 key pair; `login` needs one
    login         the ssh phase ends with a command run in the guest, not with the banner
    batch         one POST with min_count instead of one POST per server
    timeout_s     of each phase of each server
    keep          remove nothing
    cloud         the name in clouds.yaml; None: as OS_CLOUD says, or the only one
    config_files  clouds.yaml files to read instead of the standard places
    """

    count: int = 40
    concurrency: int | None = None
    max_alive: int | None = None
    rate_per_s: float | None = None
    rolling: bool = False
    image: str | None = None
    flavor: str | None = None
    network: str = "auto"
    availability_zone: str | None = None
    security_group: str | None = None
    key: bool = False
    login: bool = False
    user: str = "root"
    ssh_port: int = 22
    phases: tuple[Phase, ...] = (Phase.CREATE, Phase.PING, Phase.SSH, Phase.DELETE)
    batch: bool = False
    timeout_s: float = 600.0
    keep: bool = False
    cloud: str | None = None
    config_files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises Invalid for values that make no run."""
        for problem in _problems(self):
            raise Invalid(problem)

    def wants(self, phase: Phase) -> bool:
        """Whether the phase is part of the run."""
        return phase in self.phases

    @property
    def crowd(self) -> str:
        """How many servers, and how many of them at a time, in words."""
        most = self.max_alive if self.max_alive is not None and self.max_alive < self.count else None
        pace = " at once" if self.rate_per_s is None else f", {self.rate_per_s:g} per second"
        return f"{self.count:,} servers" + (pace if most is None else f", {most:,} at a time")

    @property
    def wants_key(self) -> bool:
        """Whether a key pair has to be made."""
        return self.key or self.login

    @property
    def wants_security_group(self) -> bool:
        """Whether a security group has to be made: the default one lets nothing in."""
        return self.security_group is None and (self.wants(Phase.PING) or self.wants(Phase.SSH))


def _problems(options: ServersOptions) -> list[str]:
    checks = [
        (1 <= options.count <= MAX_COUNT, f"the count must be between 1 and {MAX_COUNT}"),
        (options.concurrency is None or options.concurrency >= 1, "the concurrency must be at least 1"),
        (options.max_alive is None or options.max_alive >= 1, "max_alive must be at least 1"),
        (options.rate_per_s is None or 0 < options.rate_per_s < float("inf"), "the rate must be more than 0"),
        (not (options.batch and options.rate_per_s), "one batch creates all servers at once: it has no rate"),
        (0 < options.timeout_s < float("inf"), "the timeout must be more than 0 s"),
        (options.wants(Phase.CREATE), "the phases must include create: there is nothing to measure without it"),
        (
            not (options.batch and options.max_alive),
            "one batch creates all servers at once: it cannot honour max_alive",
        ),
        (
            not options.rolling or (options.wants(Phase.DELETE) and not options.batch),
            "rolling needs the phase delete, and a request per server",
        ),
        (not options.login or options.wants(Phase.SSH), "a login needs the phase ssh"),
        (not (options.keep and options.wants(Phase.DELETE)), "keep contradicts the phase delete"),
        (0 < options.ssh_port < 65536, "the ssh port must be between 1 and 65535"),
    ]
    return [text for ok, text in checks if not ok]


def parse_phases(text: str) -> tuple[Phase, ...]:
    """Phases from `create,ping,ssh,delete`, in their natural order whatever the text's. Raises Invalid."""
    names = {name.strip() for name in text.split(",") if name.strip()}
    if unknown := names - set(Phase):
        raise Invalid(f"unknown phase {', '.join(sorted(unknown))}: there are {', '.join(Phase)}")
    return tuple(phase for phase in Phase if phase in names)

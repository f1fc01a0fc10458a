"""What a run of `muster fit` is asked to do."""

import msgspec

from muster.base.errors import Invalid
from muster.client.resolve import AUTO, Wanted

PERCENTILES = (50, 95, 99)


class FitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Images, flavors, networks and security groups are named by name or id.

    host          the one host to fill, as the cloud names it; its zone is `availability_zone`, or nova
    availability_zone without a host: all hosts of the zone are filled together
    host_ram_mib, host_vcpus what the hosts have, where the cloud does not tell this user
    start, step, most guests to begin with, to add per step, and at most
    bound_ms      of the response time's `percentile`: what breaks it ends the way up
    user_data     given to each guest as it is; `script` is run in each by ssh, in the background
    probe         the command whose round trip is the response time, on a connection that is open already
    every_s       between two probes of a guest; `measure_s` for so long; `settle_s` before, once all are up
    probe_timeout_s a probe that takes longer counts as that
    boot_timeout_s in which each guest must be up, or so many cannot be had
    """

    image: str | None = None
    flavor: str | None = None
    network: str = AUTO
    security_group: str | None = None
    host: str | None = None
    availability_zone: str | None = None
    host_ram_mib: int | None = None
    host_vcpus: int | None = None
    start: int = 1
    step: int = 2
    most: int = 100
    bound_ms: float = 1000.0
    percentile: int = 95
    user_data: bytes | None = None
    script: bytes | None = None
    probe: str = "true"
    every_s: float = 1.0
    measure_s: float = 30.0
    settle_s: float = 15.0
    probe_timeout_s: float = 30.0
    boot_timeout_s: float = 600.0
    user: str = "root"
    ssh_port: int = 22
    cloud: str | None = None
    config_files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises Invalid for values that make no run."""
        for problem in _problems(self):
            raise Invalid(problem)

    @property
    def wanted(self) -> Wanted:
        """What guests are made of, by name."""
        return Wanted(self.image, self.flavor, self.network, self.security_group)

    @property
    def zone(self) -> str | None:
        """What a server asks for: a zone, or with a host Nova's `ZONE:HOST`."""
        if self.host is None:
            return self.availability_zone
        return f"{self.availability_zone or 'nova'}:{self.host}"


def _problems(options: FitOptions) -> list[str]:
    checks = [
        (1 <= options.start <= options.most, "the guests to begin with must be between 1 and the most"),
        (options.step >= 1, "a step must be at least 1 guest"),
        (options.bound_ms > 0, "the bound must be more than 0 ms"),
        (options.bound_ms < 1000 * options.probe_timeout_s, "a probe must be allowed to take longer than the bound"),
        (options.percentile in PERCENTILES, f"the percentile must be one of {', '.join(map(str, PERCENTILES))}"),
        (options.every_s > 0, "the time between probes must be more than 0 s"),
        (options.measure_s >= options.every_s, "measuring must take at least the time between two probes"),
        (options.settle_s >= 0, "the time to settle cannot be below 0 s"),
        (options.boot_timeout_s > 0, "guests need more than 0 s to boot"),
        ("\n" not in options.probe and options.probe.strip() != "", "the probe must be one line"),
        (options.host_ram_mib is None or options.host_ram_mib > 0, "a host has more than 0 MiB"),
        (options.host_vcpus is None or options.host_vcpus > 0, "a host has more than 0 processors"),
        (0 < options.ssh_port < 65536, "the ssh port must be between 1 and 65535"),
    ]
    return [text for ok, text in checks if not ok]
